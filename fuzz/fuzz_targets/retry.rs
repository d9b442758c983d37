//! Any schedule and any attempt: the next one is never too early, never after the life of the
//! message, and the same when asked again.
#![no_main]

use courser::config::{parse_duration, show_duration};
use courser_core::limits::RETRY_WAIT_S_MIN;
use courser_core::time::Duration;
use courser_core::traffic::retry::{Attempt, Schedule, Waits};
use libfuzzer_sys::fuzz_target;

type Input<'a> = (Option<(u64, u32, u64)>, Vec<u64>, u8, u64, (u32, u64, u64, Option<u64>), u64, &'a str);

fuzz_target!(|input: Input<'_>| {
    let (growing, list, jitter_percent, life, (number, age, message, asked), seed, text) = input;
    let ms = Duration::from_millis;
    let schedule = Schedule {
        waits: match growing {
            Some((first, factor_percent, max)) => Waits::Growing {
                first: ms(first),
                factor_percent,
                max: ms(max),
            },
            None => Waits::List(list.into_iter().map(ms).collect()),
        },
        jitter_percent,
        life: ms(life),
    };
    let attempt = Attempt {
        number,
        age: ms(age),
        message,
        retry_after: asked.map(ms),
    };
    let next = schedule.next(&attempt, seed);
    assert_eq!(schedule.next(&attempt, seed), next);
    if let Some(wait) = next {
        assert!(wait >= Duration::from_secs(RETRY_WAIT_S_MIN));
        assert!(attempt.age + wait <= schedule.life);
        // Never earlier than the receiver asked, unless the message would not live that long.
        if let Some(asked) = attempt.retry_after
            && wait < asked
        {
            let latest = asked + asked.saturating_mul(u32::from(jitter_percent.min(100))) / 100;
            assert!(attempt.age.saturating_add(latest) > schedule.life);
        }
    }
    // Waits never shrink from one attempt to the next.
    if let (Waits::Growing { .. }, Some(one), Some(two)) = (
        &schedule.waits,
        schedule.wait(number),
        schedule.wait(number.saturating_add(1)),
    ) {
        assert!(one <= two);
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }
});
