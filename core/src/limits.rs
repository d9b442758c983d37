//! Every bound of the core, with its unit and where it comes from.

/// Longest command line without parameters, bytes with CRLF (RFC 5321 4.5.3.1.4).
pub const COMMAND_LINE_BYTES: usize = 512;
/// Longest command line with the parameters of every extension that the core knows, bytes with
/// CRLF (RFC 5321 4.5.3.1.4 and the "maximum length" clause of each extension: 512 and what
/// SIZE, BODY, SMTPUTF8, RET, ENVID, AUTH, NOTIFY, ORCPT … add).
pub const COMMAND_LINE_BYTES_MAX: usize = 2048;
/// Longest local part, octets (RFC 5321 4.5.3.1.1).
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// Longest domain, octets (RFC 5321 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Longest path with its brackets, octets (RFC 5321 4.5.3.1.3).
pub const PATH_BYTES_MAX: usize = 256;
/// Longest reply line with CRLF that RFC 5321 4.5.3.1.5 allows, bytes.
pub const REPLY_LINE_BYTES: usize = 512;
/// Longest reply line that we read before we call the peer broken, bytes. Four times the RFC's,
/// because real receivers write long URLs.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;
/// Most lines of one reply.
pub const REPLY_LINES_MAX: usize = 128;
/// Bytes of reply text that are kept; what is longer is read and cut.
pub const REPLY_TEXT_BYTES_MAX: usize = 1024;
/// Longest text line of a message, bytes with CRLF (RFC 5321 4.5.3.1.6).
pub const TEXT_LINE_BYTES_MAX: usize = 1000;
/// Recipients that every receiver must take in one transaction (RFC 5321 4.5.3.1.8).
pub const RECIPIENTS_MIN: usize = 100;

/// Longest PROXY protocol version 1 header, bytes with CRLF (its specification, section 2.1).
pub const PROXY_V1_BYTES_MAX: usize = 107;
/// Longest PROXY protocol version 2 header that we read, bytes; balancers add some hundred bytes
/// of TLVs.
pub const PROXY_V2_BYTES_MAX: usize = 1024;

// -- smtp wire --

/// Longest label of a domain, octets (RFC 1035 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest U-label, characters: its A-label is `xn--` and at least one octet for each of them
/// (RFC 5890 2.3.2.1).
pub const LABEL_CHARS_MAX: usize = LABEL_BYTES_MAX - 4;
/// Longest name in HELO, EHLO or LHLO, octets: a domain, or a literal, which is shorter
/// (RFC 5321 4.5.3.1.2).
pub const HELLO_NAME_BYTES_MAX: usize = DOMAIN_BYTES_MAX;
/// Most digits of `SIZE=` (RFC 1870 6.1).
pub const SIZE_DIGITS_MAX: usize = 20;
/// Longest `ENVID=`, characters as encoded (RFC 3461 4.4).
pub const ENVID_BYTES_MAX: usize = 100;
/// Longest `ORCPT=`, characters with its address type, as encoded (RFC 3461 4.2 for the whole).
pub const ORCPT_BYTES_MAX: usize = 500;
/// Longest `AUTH=` of MAIL, characters as encoded (RFC 4954 3 makes room for 500).
pub const MAIL_AUTH_BYTES_MAX: usize = 500;
/// Largest `BY=` either way, seconds: nine digits (RFC 2852 4).
pub const DELIVER_BY_S_MAX: i32 = 999_999_999;
/// Largest `HOLDFOR=`, seconds: nine digits (RFC 4865 3).
pub const HOLD_FOR_S_MAX: u32 = 999_999_999;
/// Priorities run from minus this to this (RFC 6710 3).
pub const MT_PRIORITY_MAX: i8 = 9;
/// Longest name of a SASL mechanism, octets (RFC 4422 3.1).
pub const MECHANISM_BYTES_MAX: usize = 20;

// -- feedback and reports --

/// Longest wait that a reply's text may ask for, seconds: a hostile or broken text must not park
/// a delivery for ever. One day, the longest that greylisters and limiters ask in practice.
pub const RETRY_HINT_S_MAX: u64 = 86_400;

// -- header fields and reports --

/// Longest header that is read, bytes without the empty line. RFC 5322 sets none; receivers stop
/// between 64 KiB and a few hundred.
pub const HEADER_BYTES_MAX: usize = 256 * 1024;
/// More `Received:` fields than this are a loop (RFC 5321 6.3 asks for at least 100).
pub const RECEIVED_MAX: usize = 100;
/// Room that every `Received:` field of ours fits in, bytes.
pub const RECEIVED_BYTES_MAX: usize = 2048;
/// Longest line of a message, octets without CRLF (RFC 5322 2.1.1).
pub const LINE_BYTES_MAX: usize = 998;
/// Longest line that we write where it can be helped, octets without CRLF (RFC 5322 2.1.1).
pub const LINE_BYTES_WISHED: usize = 78;
/// Longest message that goes back whole in a report, bytes; of longer ones the header goes back.
pub const DSN_RETURN_BYTES_MAX: usize = 64 * 1024;
/// Most that goes back of a header, bytes.
pub const DSN_HEADER_BYTES_MAX: usize = 32 * 1024;
/// Longest delivery report part that is read of an incoming report, bytes.
pub const DSN_REPORT_BYTES_MAX: usize = 1024 * 1024;
/// Most recipients that are read of one incoming report.
pub const DSN_RECIPIENTS_MAX: usize = 1000;

// -- DNS and routing --

/// Longest name on the wire, octets with length octets and the root (RFC 1035 2.3.4).
pub const DNS_NAME_BYTES_MAX: usize = 255;
/// Longest query that the resolver writes, bytes: header, one question, an empty OPT record
/// (RFC 1035 4.1, RFC 6891 6.1.2).
pub const DNS_QUERY_BYTES_MAX: usize = 12 + DNS_NAME_BYTES_MAX + 4 + 11;
/// UDP payload that the resolver says it takes, bytes: fits every path without fragments
/// (RFC 6891 6.2.5 leaves it to us; DNS Flag Day 2020 says 1232).
pub const DNS_UDP_PAYLOAD_BYTES: u16 = 1232;
/// Records of one answer section that are looked at; the rest is not read.
pub const DNS_RECORDS_MAX: usize = 512;
/// CNAMEs that are followed for one question, within answers and by asking on (RFC 1034 3.6.2
/// asks for a bound and gives none).
pub const DNS_CNAME_CHAIN_MAX: usize = 10;
/// Recursive servers that one resolver knows.
pub const DNS_SERVERS_MAX: usize = 16;
/// Queries that are sent for one name of one question before it fails.
pub const DNS_ATTEMPTS_MAX: usize = 8;
/// Longest time that a negative answer is kept, seconds (RFC 2308 5: one to three hours).
pub const DNS_NEGATIVE_TTL_S_MAX: u32 = 10_800;
/// Longest time that a failure is kept, seconds (RFC 2308 7.1, RFC 9520 3.2).
pub const DNS_FAILURE_TTL_S_MAX: u32 = 300;
/// MX hosts of one domain that a plan keeps, best first.
pub const MX_HOSTS_MAX: usize = 16;
/// Addresses of one host that a plan keeps.
pub const HOST_ADDRESSES_MAX: usize = 16;
/// Addresses that a plan keeps over all its hosts.
pub const PLAN_ADDRESSES_MAX: usize = 64;

// -- DANE --

/// TLSA records of one host that count, in the order of the answer (our choice; hosts that change
/// keys have a handful).
pub const DANE_RECORDS_MAX: usize = 64;
/// Certificates of one chain that are looked at, from the server's own on (our choice).
pub const DANE_CHAIN_MAX: usize = 16;
/// Paths to trust anchors that are validated for one chain (our choice): each costs signatures.
pub const DANE_PATHS_MAX: usize = 16;
/// Hosts that the text about a certificate of the wrong names lists of it.
pub const DANE_NAMES_SHOWN_MAX: usize = 3;

// -- MTA-STS, TLS-RPT --

/// Longest name of a field in their TXT records and in policies, octets (RFC 8461 3.1, 3.2,
/// RFC 8460 3).
pub const FIELD_NAME_BYTES_MAX: usize = 32;
/// Longest id of a policy, octets (RFC 8461 3.1).
pub const MTA_STS_ID_BYTES_MAX: usize = 32;
/// Longest policy, bytes: 64 KiB (RFC 8461 3.3).
pub const MTA_STS_POLICY_BYTES_MAX: usize = 64 * 1024;
/// Most `mx` of one policy (our choice; large receivers have five).
pub const MTA_STS_MX_MAX: usize = 128;
/// Longest time that a policy holds, seconds: about a year (RFC 8461 3.2).
pub const MTA_STS_MAX_AGE_S_MAX: u32 = 31_557_600;
/// How long after it was fetched a policy is fetched again, seconds: a day (RFC 8461 3.3), or half
/// of the time that it holds if that is less.
pub const MTA_STS_REFRESH_S: u32 = 86_400;
/// Wait after the first fetch of a policy that failed, seconds (RFC 8461 3.3), and the shortest
/// time that one holds; each further failure doubles the wait.
pub const MTA_STS_RETRY_S_MIN: u32 = 300;
/// Longest wait after fetches that failed, seconds (our choice).
pub const MTA_STS_RETRY_S_MAX: u32 = 3600;
/// Domains whose policies are remembered; beyond, the one that was used the longest ago is forgotten.
pub const MTA_STS_DOMAINS_MAX: usize = 20_000;
/// Memory for all remembered policies, bytes, roughly.
pub const MTA_STS_CACHE_BYTES_MAX: usize = 64 << 20;
/// Addresses that one domain's TLS reports go to (our choice; RFC 8460 3 sets none).
pub const TLSRPT_URIS_MAX: usize = 8;
/// Largest report that is read, bytes of JSON: 8 MiB. RFC 8460 sets none; those of large senders
/// about large receivers have a few hundred kilobytes.
pub const TLSRPT_JSON_BYTES_MAX: usize = 8 << 20;
/// Longest text in a report, bytes; what is longer is cut where it is read.
pub const TLSRPT_TEXT_BYTES_MAX: usize = 4096;
/// Lines of one policy, and patterns of its hosts, in a report: a policy of MTA-STS fits.
pub const TLSRPT_LINES_MAX: usize = MTA_STS_MX_MAX + 3;
/// Policies of one report, read or written.
pub const TLSRPT_POLICIES_MAX: usize = 100;
/// Different failures of one policy in a report, read or written.
pub const TLSRPT_FAILURES_MAX: usize = 1000;
/// What one day's results take in memory, bytes, roughly: 64 MiB. What is new then is counted as
/// not reported.
pub const TLSRPT_COLLECTED_BYTES_MAX: usize = 64 << 20;

// -- SPF --

/// Terms of one check that ask DNS (RFC 7208 4.6.4).
pub const SPF_LOOKUPS_MAX: u32 = 10;
/// Of those, terms whose answer is void: NXDOMAIN or no data (RFC 7208 4.6.4).
pub const SPF_VOID_LOOKUPS_MAX: u32 = 2;
/// MX hosts of one `mx` term; more are a permanent error (RFC 7208 4.6.4).
pub const SPF_MX_HOSTS_MAX: usize = 10;
/// Names of the client that `ptr` and `%{p}` look at; more are ignored (RFC 7208 4.6.4).
pub const SPF_PTR_NAMES_MAX: usize = 10;
/// Longest domain that comes out of macros, octets; a longer one is cut at the left (RFC 7208 7.3).
pub const SPF_TARGET_BYTES_MAX: usize = 253;
/// Longest explanation, octets; a longer one is no explanation. RFC 7208 6.2 sets none; what is
/// longer would not fit into a reply.
pub const SPF_EXPLANATION_BYTES_MAX: usize = 2048;
/// Questions of one check at most: the record, per term one and the MX hosts behind it, the names
/// of the client and their addresses, the explanation.
pub const SPF_QUESTIONS_MAX: usize =
    1 + SPF_LOOKUPS_MAX as usize * (1 + SPF_MX_HOSTS_MAX) + 1 + SPF_PTR_NAMES_MAX + 1;

// -- authentication: DMARC --

/// Questions of one walk up the tree (RFC 9989 4.10).
pub const DMARC_WALK_QUERIES_MAX: usize = 8;
/// Domains that SPF, and as many that DKIM found, which one evaluation looks at (our choice).
pub const DMARC_IDENTIFIERS_MAX: usize = 10;
/// Questions of one evaluation: the walk of the author domain, whether it exists, and the walks of
/// the domain of SPF and of those of DKIM.
pub const DMARC_QUESTIONS_MAX: usize =
    DMARC_WALK_QUERIES_MAX + 1 + DMARC_WALK_QUERIES_MAX * (1 + DMARC_IDENTIFIERS_MAX);
/// Results in one Authentication-Results field that are read (our choice).
pub const AUTH_RESULTS_MAX: usize = 100;
/// Properties of one result that are read (our choice).
pub const AUTH_PROPERTIES_MAX: usize = 100;
/// Longest value, comment or reason that is written in it, octets (our choice: with its name and
/// quotes it stays under the 998 of RFC 5322 2.1.1 even if each octet is escaped).
pub const AUTH_VALUE_BYTES_MAX: usize = 400;

// -- submission session (smtp::server) --

/// Longest line of an AUTH exchange, bytes with CRLF (RFC 4954 4). It stays in the caller's input
/// buffer, never in the session.
pub const AUTH_LINE_BYTES_MAX: usize = 12_288;
/// Replies that a session queues before it has them sent, bytes (our choice; the answer to EHLO
/// with every extension fits).
pub const SERVER_REPLY_QUEUE_BYTES: usize = 1024;
/// Room that the queue of replies has before any command is taken, bytes: an application's reply
/// is cut to it (RFC 5321 4.5.3.1.5 for one line).
pub const SERVER_REPLY_BYTES_MAX: usize = REPLY_LINE_BYTES;
/// Bytes of an over-long command line that are read and thrown away before the session closes.
pub const SERVER_SKIPPED_LINE_BYTES_MAX: u64 = 65_536;
/// Bytes of a refused body that are read and thrown away before the session closes: 16 MiB.
pub const SERVER_DISCARDED_BODY_BYTES_MAX: u64 = 16 << 20;
/// Largest message by default, octets: 50 MiB.
pub const SERVER_MESSAGE_BYTES_MAX: u64 = 50 << 20;
/// Recipients of one transaction by default; RFC 5321 4.5.3.1.8 asks for at least
/// [`RECIPIENTS_MIN`].
pub const SERVER_RECIPIENTS_MAX: u32 = 1000;
/// Recipients that the application refuses since the last accepted message, by default.
pub const SERVER_REFUSED_RECIPIENTS_MAX: u32 = 1000;
/// Errors since the last accepted message, by default.
pub const SERVER_ERRORS_MAX: u32 = 20;
/// NOOP, RSET, VRFY, EXPN, HELP, EHLO and AUTH since the last accepted message, by default.
pub const SERVER_JUNK_COMMANDS_MAX: u32 = 100;
/// Commands of one session by default.
pub const SERVER_COMMANDS_MAX: u32 = 1_000_000;
/// Wait for a whole command, seconds (RFC 5321 4.5.3.2.7).
pub const SERVER_COMMAND_TIMEOUT_S: u64 = 300;
/// Wait for the next block of a body, seconds (RFC 5321 4.5.3.2.5).
pub const SERVER_DATA_BLOCK_TIMEOUT_S: u64 = 180;
/// From the first to the last octet of a body, seconds (our choice: stops a client that drips).
pub const SERVER_MESSAGE_TIMEOUT_S: u64 = 3600;

// -- authentication of sessions (smtp::sasl) --

/// Longest user name, octets (RFC 4616 2 makes every server take 255).
pub const SASL_USER_BYTES_MAX: usize = 255;
/// Longest password, octets (RFC 4616 2 makes every server take 255; keys for interfaces that are
/// used as passwords are longer).
pub const SASL_PASSWORD_BYTES_MAX: usize = 1024;
/// Longest message of an exchange, octets decoded: PLAIN with its longest parts fits.
pub const SASL_MESSAGE_BYTES_MAX: usize = 2048;
/// Longest nonce of one side of SCRAM, octets (RFC 5802 5.1 sets none). Those of common clients
/// have 24 to 48; a challenge with both fits into a reply.
pub const SCRAM_NONCE_BYTES_MAX: usize = 128;
/// Longest salt, octets (RFC 5802 5.1 sets none; 16 are usual).
pub const SCRAM_SALT_BYTES_MAX: usize = 64;
/// Fewest iterations that keys may be made with (RFC 7677 4).
pub const SCRAM_ITERATIONS_MIN: u32 = 4096;
/// Most iterations: about half a second of a processor. A server's number is a stranger's.
pub const SCRAM_ITERATIONS_MAX: u32 = 2_000_000;
/// Longest value of a channel binding, octets: a certificate's hash by SHA-512 (RFC 5929 4.1).
pub const CHANNEL_BINDING_BYTES_MAX: usize = 64;

// -- smtp::client --

/// Recipients of one transaction that a delivery session keeps apart, and so the most that it
/// sends in one. RFC 5321 4.5.3.1.8 makes receivers take 100; more than this is never useful.
pub const RECIPIENTS_PER_TRANSACTION_MAX: usize = 1024;
/// Transactions whose answers a delivery session awaits at the same time.
pub const TRANSACTIONS_IN_FLIGHT_MAX: usize = 2;
/// Room that always holds any single command of a delivery session, bytes.
pub const OUT_BYTES_MIN: usize = COMMAND_LINE_BYTES_MAX;
/// Default for the largest body that is sent with BDAT before the answers to RCPT came, octets:
/// a few bandwidth-delay products; a larger one for refused recipients costs more than a round
/// trip does.
pub const BODY_AHEAD_BYTES_MAX: u64 = 256 * 1024;

// -- traffic --

/// Most per period that a rate can say.
pub const RATE_COUNT_MAX: u32 = 4_000_000_000;
/// Longest period of a rate, seconds: 31 days.
pub const RATE_PERIOD_S_MAX: u32 = 31 * 86_400;
/// Most that a rate lets come at once.
pub const RATE_BURST_MAX: u32 = 1_000_000;
/// Recipients in one transaction that cost their tenant one more turn in its lane.
pub const LANE_RECIPIENTS_PER_TURN: u32 = 16;
/// Steps of one poll of the scheduler, after which it lets its caller do something else.
pub const POLL_STEPS_MAX: u32 = 1024;
/// Messages that a session may send before it must make way for a lane that waits for its place.
pub const SESSION_TURN_MESSAGES: u32 = 10;
/// How long before a token is there a connection for it is opened, ms.
pub const OPEN_AHEAD_MS: u64 = 1000;
/// Expired deliveries that one call to take work steps over.
pub const TAKE_EXPIRED_MAX: u32 = 256;
/// Deliveries of one message that go over the same source before another is chosen: the least
/// that every receiver takes in one transaction (RFC 5321 4.5.3.1.8).
pub const SAME_SOURCE_RUN: u32 = 100;
/// Deliveries that are counted to say how many stand before one.
pub const EXPLAIN_AHEAD_MAX: u32 = 10_000;
/// Addresses of hosts that could not be reached that are remembered by default.
pub const DEAD_HOSTS_MAX: usize = 10_000;
/// Client networks whose failed logins are remembered.
pub const LOGIN_NETWORKS_MAX: usize = 100_000;
/// Users whose failed logins are remembered, and as many names that no user has.
pub const LOGIN_USERS_MAX: usize = 10_000;
/// Networks that a user logged in from of late, which a block of the user doesn't hit.
pub const LOGIN_GOOD_NETWORKS_MAX: usize = 4;
/// Shortest wait between two attempts, seconds.
pub const RETRY_WAIT_S_MIN: u64 = 1;

// -- authentication --

/// Tags of one tag list (RFC 6376 3.2 sets no bound; no signature has more than fifteen).
pub const DKIM_TAGS_MAX: usize = 32;
/// Names in one `h=` (RFC 6376 3.5 sets no bound): each of them costs a search.
pub const DKIM_SIGNED_NAMES_MAX: usize = 256;
/// Signatures of one message that are evaluated, from the top (RFC 6376 6.1 lets verifiers choose):
/// each costs a question of DNS and a verification.
pub const DKIM_SIGNATURES_MAX: usize = 10;
/// Shortest RSA key that a signature may be of, bits (RFC 8301 3.2).
pub const DKIM_VERIFY_RSA_BITS_MIN: usize = 1024;
/// Bits of an RSA key that verifies a signature: twice what signers have, because verifying costs
/// the square of it and the key is a stranger's.
pub const DKIM_VERIFY_RSA_BITS_MAX: usize = 8192;
/// Shortest RSA key that we sign with, bits (RFC 8301 3.2 says SHOULD).
pub const DKIM_SIGN_RSA_BITS_MIN: usize = 2048;
/// Longest RSA key that we sign with, bits: what every verifier takes (RFC 8301 3.2).
pub const DKIM_SIGN_RSA_BITS_MAX: usize = 4096;
/// How far a signer's clock may be ahead of ours, seconds (RFC 6376 3.5, `t=`, sets none).
pub const DKIM_CLOCK_SKEW_S_MAX: i64 = 300;
/// Addresses that one text names at the most which says what SPF lacks: an SMTP reply has 512 bytes.
pub const ALIGNMENT_ADDRESSES_NAMED_MAX: usize = 3;
/// Most ARC sets of one message (RFC 8617 4.2.1).
pub const ARC_SETS_MAX: u32 = 50;
