//! The program `hawser`. All of it is in the library, where tests can call it.

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
