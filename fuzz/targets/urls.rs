#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    pooka_fuzz::within(octets, 256 << 10, 512, pooka_testkit::fuzz::urls);
});
