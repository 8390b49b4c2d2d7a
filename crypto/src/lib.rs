//! Sessions of an encrypted mesh, sans I/O: bytes and the time in, bytes and events out.
