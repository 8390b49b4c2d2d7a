#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crypto::workbench::fuzz::run("import", data));
