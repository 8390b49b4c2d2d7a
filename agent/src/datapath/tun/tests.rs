//! Real devices, each in a network namespace of its own, which goes away with its thread.

use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::*;

const NAME: &str = "hwtest0";

/// Runs `test` in a namespace without devices. Needs root.
fn alone(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        test();
    });
    thread.join().unwrap();
}

#[test]
fn a_device_has_a_queue_for_each_worker_and_takes_trains() {
    alone(|| {
        let tun = Tun::open(NAME, 1400, 3).unwrap();

        assert!(tun.own_queue(2).is_some() && tun.own_queue(3).is_none());
        assert_eq!(tun.mtu().unwrap(), 1400);
        assert!(tun.merging().tcp, "Linux takes TCP trains since 2.6.27");
        assert_eq!(tun.index().unwrap(), index(NAME).unwrap());
    });
}

#[test]
fn its_queues_are_longer_than_the_kernels_and_never_made_shorter() {
    alone(|| {
        let length = || request::queue_length(any_socket().unwrap().as_fd(), NAME).unwrap();
        let tun = Tun::open(NAME, 1400, 2).unwrap();
        assert_eq!(length(), QUEUE);

        request::lengthen_queues(any_socket().unwrap().as_fd(), NAME, 2 * QUEUE).unwrap();
        drop(tun);
        Tun::open(NAME, 1400, 2).unwrap();

        assert_eq!(length(), 2 * QUEUE);
    });
}

#[test]
fn it_stays_when_its_owner_goes_and_is_taken_over_with_its_mtu() {
    alone(|| {
        let index = Tun::open(NAME, 1300, 2).unwrap().index().unwrap();

        let again = Tun::open(NAME, 1400, 4).unwrap();

        assert_eq!((again.index().unwrap(), again.mtu().unwrap()), (index, 1300));
        assert!(again.own_queue(3).is_some());
    });
}

#[test]
fn one_that_an_earlier_run_made_with_one_queue_is_used_with_one() {
    alone(|| {
        let earlier = Queue::file().unwrap();
        request::attach(earlier.as_fd(), NAME, false).unwrap();
        request::persist(earlier.as_fd()).unwrap();
        let index = index(NAME).unwrap();
        drop(earlier);

        let tun = Tun::open(NAME, 1400, 2).unwrap();

        assert_eq!(tun.index().unwrap(), index);
        assert!(tun.own_queue(0).is_some() && tun.own_queue(1).is_none());
        assert!(std::ptr::eq(tun.queue(1), tun.queue(0)), "all workers write to the one");
    });
}

#[test]
fn one_that_another_program_holds_is_an_error() {
    alone(|| {
        let other = Queue::file().unwrap();
        request::attach(other.as_fd(), NAME, false).unwrap();

        let error = Tun::open(NAME, 1400, 1).unwrap_err();

        assert_eq!(Errno::from_io_error(&error), Some(Errno::BUSY));
    });
}

#[test]
fn a_kernel_that_refused_a_train_is_given_none_again() {
    alone(|| {
        let tun = Tun::open(NAME, 1400, 1).unwrap();

        tun.refused_a_train();

        assert_eq!(tun.merging(), Merging::default());
    });
}
