use super::*;

#[test]
fn a_host_name_is_enough() {
    let config = parse("hostname = \"mail.example.org\"", "courser.toml").unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert!(config.listeners[0].relays_for("127.0.0.1".parse().unwrap()));
    assert!(!config.listeners[0].relays_for("192.0.2.1".parse().unwrap()));
}
