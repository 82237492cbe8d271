#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| grinta_fuzz::plans::sim_control(data));
