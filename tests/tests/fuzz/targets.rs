//! The fuzz targets as modules: their very files.

/// A target.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// The name of its test, and the test.
    pub(crate) test: &'static str,
    pub(crate) play: fn(),
}

macro_rules! targets {
    ($($target:ident: $file:literal,)+) => {
        $(
            // Its file is a program's to the fuzzer.
            #[allow(unused_attributes)]
            #[path = $file]
            mod $target;
        )+

        pub(crate) const TARGETS: &[Target] = &[$(Target {
            name: stringify!($target),
            test: concat!("fuzz::", stringify!($target)),
            play: || crate::play(stringify!($target), $target::fuzz_input),
        }),+];
    };
}

targets! {
    address: "../../../fuzz/fuzz_targets/address.rs",
    arc: "../../../fuzz/fuzz_targets/arc.rs",
    auth_results: "../../../fuzz/fuzz_targets/auth_results.rs",
    certificate: "../../../fuzz/fuzz_targets/certificate.rs",
    client: "../../../fuzz/fuzz_targets/client.rs",
    command: "../../../fuzz/fuzz_targets/command.rs",
    config: "../../../fuzz/fuzz_targets/config.rs",
    control: "../../../fuzz/fuzz_targets/control.rs",
    data: "../../../fuzz/fuzz_targets/data.rs",
    date: "../../../fuzz/fuzz_targets/date.rs",
    dkim_key: "../../../fuzz/fuzz_targets/dkim_key.rs",
    dkim_verify: "../../../fuzz/fuzz_targets/dkim_verify.rs",
    dmarc: "../../../fuzz/fuzz_targets/dmarc.rs",
    dns_answer: "../../../fuzz/fuzz_targets/dns_answer.rs",
    dns_lookup: "../../../fuzz/fuzz_targets/dns_lookup.rs",
    dsn: "../../../fuzz/fuzz_targets/dsn.rs",
    event: "../../../fuzz/fuzz_targets/event.rs",
    extension: "../../../fuzz/fuzz_targets/extension.rs",
    header: "../../../fuzz/fuzz_targets/header.rs",
    mta_sts: "../../../fuzz/fuzz_targets/mta_sts.rs",
    proxy: "../../../fuzz/fuzz_targets/proxy.rs",
    rate: "../../../fuzz/fuzz_targets/rate.rs",
    reply: "../../../fuzz/fuzz_targets/reply.rs",
    retry: "../../../fuzz/fuzz_targets/retry.rs",
    route: "../../../fuzz/fuzz_targets/route.rs",
    sasl: "../../../fuzz/fuzz_targets/sasl.rs",
    scheduler: "../../../fuzz/fuzz_targets/scheduler.rs",
    server: "../../../fuzz/fuzz_targets/server.rs",
    spf: "../../../fuzz/fuzz_targets/spf.rs",
    spool_record: "../../../fuzz/fuzz_targets/spool_record.rs",
    spool_recover: "../../../fuzz/fuzz_targets/spool_recover.rs",
    tlsrpt: "../../../fuzz/fuzz_targets/tlsrpt.rs",
    verdict: "../../../fuzz/fuzz_targets/verdict.rs",
}
