//! `courser serve` against real peers, over loopback. One file for each promise or group of peers.
#![allow(missing_docs)]

mod alignment;
mod auth;
mod bad_clients;
mod bad_dns;
mod bad_receivers;
mod check_config;
mod clock;
mod crash;
mod damage;
mod dane;
mod demo;
mod differential;
mod dkim;
mod dns;
mod dsn;
mod events_disk;
mod explain;
mod faults;
mod folders;
mod full;
mod handshakes;
mod harness;
mod inbound;
mod mail;
mod mta_sts;
mod operate;
mod power;
mod probe;
mod receivers;
mod refusals;
mod spf;
mod storm;
mod submit;
mod tls_in;
mod tls_out;
mod tlsrpt;

use std::process::ExitCode;

use courser_tests::{suite, tests};

fn main() -> ExitCode {
    suite::run(tests! {
        alignment: {
            refused_with_the_record_that_helps,
            held_until_it_is_released,
            warned_about_once,
            dns_that_does_not_answer_decides_nothing,
            a_key_signs_for_its_tenants,
        }
        auth: {
            swaks_plain_and_login,
            python_smtplib_plain_and_login,
            msmtp_scram_plain_and_login,
            gsasl_scram,
            keys_of_gsasl_and_hashes_of_argon2,
            who_logged_in_relays_and_is_named,
            only_as_whom_the_file_says,
            nobody_without_logging_in,
            no_more_than_he_may,
            wrong_passwords_are_slowed_and_blocked,
            a_block_of_a_user_spares_where_it_logged_in_from,
            nobody_learns_who_is_there,
            many_passwords_at_once,
            users_are_read_again,
            the_command_line_keeps_users,
            secrets_are_nowhere,
            courser_logs_in_at_courser,
            mail_waits_while_the_password_is_refused,
            mail_waits_where_the_password_would_be_overheard,
            courser_logs_in_at_postfix,
            a_server_that_only_says_yes_gets_nothing,
            over_tls_a_login_is_bound_to_it,
            no_login_is_offered_before_tls,
            swaks_over_tls,
            python_smtplib_over_tls,
            openssl_s_client_logs_in,
            gsasl_scram_over_tls,
            scramp_binds_to_the_certificate,
        }
        bad_clients: {
            stalls_at_every_step,
            one_byte_per_second,
            floods_of_connections,
            floods_of_recipients,
            lines_without_an_end,
            zeros_everywhere,
            never_listens,
        }
        bad_dns: {
            no_lie_moves_mail,
            an_honest_server_beside_a_liar_is_enough,
        }
        bad_receivers: {
            every_mood_at_every_step,
            between_transactions_and_at_quit,
            what_ends_the_second_transaction_leaves_the_first_alone,
            a_host_that_takes_no_connection,
        }
        check_config: {
            a_right_one,
            the_example_is_right,
            wrong_ones_name_file_line_field_and_what_would_be_right,
            serve_says_the_same,
        }
        clock: {
            jumps_while_mail_waits,
            jumps_over_a_restart,
        }
        crash: {
            copies_without_a_reason_are_found,
            kill_9_at_random_moments_under_load,
            sigterm_finishes_what_is_in_flight,
            draining_ends_in_time_although_a_receiver_hangs,
            drain_over_the_control_socket,
            two_servers_do_not_share_a_spool,
        }
        damage: {
            while_it_is_stopped,
            while_it_runs,
        }
        dane: {
            by_what_dnssec_says,
            signed_and_unsigned_at_one_host,
            requiretls_and_its_opposite,
        }
        demo: {
            a_newsletter_to_five_hundred,
        }
        dkim: {
            other_verifiers_agree,
            keys_are_checked_against_dns,
            keys_that_are_no_good_keep_it_from_starting_and_from_reloading,
            only_the_authors_keys_sign,
            dkimpy_and_courser_sign_for_each_other,
            what_opendkim_signs_is_verified,
        }
        differential: {
            postfix_and_courser_take_the_same,
        }
        dns: {
            where_mail_is_taken,
            where_no_mail_is_taken,
            dns_that_fails_defers,
            answers_too_long_for_udp,
            slow_and_silent_name_servers,
            inner_addresses_are_refused_unless_allowed,
        }
        dsn: {
            failure,
            whole_messages_are_returned_when_asked_for,
            who_is_not_told,
            parameters_are_passed_on,
            success_at_the_end_of_dsn_is_relayed,
            lmtp_delivers_and_says_so,
            delay_is_told_once_and_then_it_expires,
            a_receiver_that_recovers,
        }
        events_disk: {
            a_disk_that_fails_for_long,
            a_disk_that_fails_for_a_moment,
            a_stop_while_nothing_can_be_written,
            a_start_that_cannot_make_the_folder,
            a_full_disk,
        }
        explain: {
            retry_time,
            message_rate,
            connection_rate,
            in_flight_turn_and_concurrency,
            sessions,
            held_by_an_operator,
            a_dead_host,
            dns_that_does_not_answer,
            a_receiver_that_wants_less,
            scheduled_by_its_sender,
            stopping,
            nothing_to_show,
        }
        faults: {
            every_call_of_a_start_fails_once,
            what_fails_under_load_and_then_works_again,
            syncs_that_fail_under_load,
            what_ends_while_a_segment_cannot_be_read,
            a_start_on_a_failing_disk_says_what_would_be_right,
        }
        folders: {
            in_the_way_of_a_file,
            not_writable,
            mounted_read_only,
            full_at_the_start,
            missing_ones_are_made,
            removed_under_the_running_server,
        }
        full: {
            a_full_disk,
            a_disk_that_others_fill,
            a_full_queue,
        }
        handshakes: {
            receivers_that_stall_and_close_at_every_step,
            answers_cut_short_over_tls_are_none,
            submitters_that_never_finish,
        }
        harness: {
            a_test_that_hangs_is_given_up,
            times_are_read,
        }
        inbound: {
            checked_and_marked,
            only_real_senders_are_told_of_failures,
        }
        mail: {
            twenty_five_megabytes,
            a_large_mail_is_read_back_from_the_spool,
            a_thousand_recipients_in_transactions_of_a_hundred,
            a_receiver_that_takes_fewer_recipients,
            some_recipients_of_one_transaction,
            a_recipient_given_twice_gets_one,
            eight_bit_mail,
            utf8_addresses,
            utf8_mail_with_ascii_addresses_and_header,
            python_sends_utf8,
            a_slow_receiver_within_its_time,
        }
        mta_sts: {
            what_policies_do,
            policies_that_cannot_be_fetched,
            who_is_not_asked,
            policies_outlive_restarts,
            a_domain_is_fetched_once_for_all_shards,
            requiretls_by_a_policy,
            a_probe_shows_the_policy,
        }
        operate: {
            hold_release_retry_bounce_and_drop,
            requests_about_a_queue_that_takes_many_steps,
            tags_do_not_leave_the_house,
            reload,
            a_route_that_changes,
            status_adds_up,
            the_story_of_a_message,
            events_as_they_happen,
        }
        power: {
            at_every_record_boundary,
        }
        probe: {
            tls_from_the_first_byte,
            a_route_by_lmtp,
            sources_and_streams_that_ask_for_tls,
            domains_that_lead_nowhere,
            a_password_stays_here_without_tls,
            a_stolen_certificate,
        }
        receivers: {
            smtp_sink_in_its_moods,
            smtp_sink_without_esmtp,
            smtp_sink_as_lmtp,
            smtp_sink_that_refuses,
            postfix_receives,
            postfix_sends,
        }
        refusals: {
            smuggling,
            commands,
            long_lines,
            too_large,
            too_many_recipients,
            too_many_errors,
            relaying_for_strangers,
            too_many_connections,
            too_fast,
            early_talkers,
            slow_clients,
            messages_that_go_in_circles,
            proxy_headers,
            a_client_that_vanishes_leaves_nothing_behind,
            lmtp_intake,
            the_greeting_names_what_is_offered,
        }
        spf: {
            pyspf_agrees,
        }
        storm: {
            hangups_while_mail_flows,
            sigterm_under_load,
        }
        submit: {
            swaks,
            python_smtplib,
            curl,
            msmtp,
            smtp_source_with_many_sessions,
            a_message_without_a_header_and_one_without_a_body,
        }
        tls_in: {
            clients_of_all_kinds,
            nothing_from_before_the_handshake_counts,
            postfix_sends_over_tls,
            no_mail_in_plaintext_where_tls_is_required,
            handshakes_that_come_to_nothing,
            certificates_of_clients,
            events_name_the_certificates_of_clients,
            certificates_that_are_no_good,
        }
        tls_out: {
            levels_and_receivers,
            who_may_ask_for_more,
            sessions_go_on,
            postfix_receives_over_tls,
            tls_from_the_first_byte,
            addresses_of_bad_tls_are_remembered,
            a_probe_says_what_a_delivery_would_do,
        }
        tlsrpt: {
            what_is_told_is_what_happened,
            once_a_day_whatever_ends_in_between,
            by_https,
            off_until_it_is_wanted_and_never_unsigned,
        }
    })
}
