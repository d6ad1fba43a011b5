#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    pooka_fuzz::within(octets, 8 << 20, 32_768, pooka_testkit::fuzz::connection);
});
