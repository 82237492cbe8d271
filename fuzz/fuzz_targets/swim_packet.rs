#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| grinta_fuzz::members::swim_packet(data));
