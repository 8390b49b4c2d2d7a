//! A disk in memory that stops at any step, as a killed process does, or is full.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
};

use super::disk::Disk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// After this many operations each one fails, and the one at the edge may be half done.
    Crash(u32),
    /// Nothing new can be written.
    Full,
}

#[derive(Debug)]
pub(super) struct FaultyDisk {
    names: RefCell<BTreeMap<String, u64>>,
    files: RefCell<BTreeMap<u64, Vec<u8>>>,
    next: Cell<u64>,
    pub(super) fault: Cell<Fault>,
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self {
            names: RefCell::default(),
            files: RefCell::default(),
            next: Cell::new(1),
            fault: Cell::new(Fault::None),
        }
    }
}

impl FaultyDisk {
    /// Puts garbage in the place of a file's content; its names stay.
    pub(super) fn damage(&self, name: &str, garbage: &[u8]) {
        let inode = self.names.borrow()[name];
        self.files.borrow_mut().insert(inode, garbage.to_vec());
    }

    /// What copying the directory does: every name is a file of its own.
    pub(super) fn break_links(&self) {
        for inode in self.names.borrow_mut().values_mut() {
            let content = self.files.borrow()[inode].clone();
            *inode = self.write(&content);
        }
    }

    fn write(&self, bytes: &[u8]) -> u64 {
        let inode = self.next.replace(self.next.get() + 1);
        self.files.borrow_mut().insert(inode, bytes.to_vec());
        inode
    }

    fn step(&self) -> io::Result<()> {
        match self.fault.get() {
            Fault::Crash(0) => Err(io::Error::other("killed")),
            Fault::Crash(left) => {
                self.fault.set(Fault::Crash(left - 1));
                Ok(())
            }
            Fault::None | Fault::Full => Ok(()),
        }
    }

    fn writing(&self) -> io::Result<()> {
        self.step()?;
        match self.fault.get() {
            Fault::Full => Err(io::ErrorKind::StorageFull.into()),
            Fault::None | Fault::Crash(_) => Ok(()),
        }
    }

    fn inode(&self, name: &str) -> io::Result<u64> {
        self.names.borrow().get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FaultyDisk {
    type Hold = ();
    type Section = ();

    fn enter(&self) -> io::Result<()> {
        self.step()
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.fault.get() == Fault::Crash(0) {
            let inode = self.write(&bytes[..bytes.len() / 2]);
            self.names.borrow_mut().insert(name.to_owned(), inode);
        }
        self.writing()?;
        assert!(self.inode(name).is_err(), "{name} exists");
        let inode = self.write(bytes);
        self.names.borrow_mut().insert(name.to_owned(), inode);
        Ok(())
    }

    fn hold(&self, name: &str, _wait: bool) -> io::Result<Option<()>> {
        self.step()?;
        self.inode(name).map(|_| Some(()))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.step()?;
        Ok(self.files.borrow()[&self.inode(name)?].clone())
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.step()?;
        Ok(self.inode(name).is_ok())
    }

    fn same(&self, one: &str, other: &str) -> io::Result<bool> {
        self.step()?;
        Ok(self.inode(one)? == self.inode(other)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.writing()?;
        if self.inode(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.inode(from)?;
        self.names.borrow_mut().insert(to.to_owned(), inode);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let inode = self.inode(from)?;
        self.names.borrow_mut().remove(from);
        self.names.borrow_mut().insert(to.to_owned(), inode);
        Ok(())
    }

    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.writing()?;
        let inode = self.write(bytes);
        self.names.borrow_mut().insert(name.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step()?;
        self.names.borrow_mut().remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.step()?;
        Ok(self.names.borrow().keys().cloned().collect())
    }
}
