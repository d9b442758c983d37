"""Postfix from the distribution, with a configuration and a queue of its own. Needs root."""

import os
import shutil
import subprocess

from measure.system import Failure, find, wait_for

MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = {listen[0]}
inet_protocols = ipv4
myhostname = load.example.com
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
relayhost = [{sink[0]}]:{sink[1]}
message_size_limit = 60000000
maillog_file = {home}/maillog
maillog_file_prefixes = {home}
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks, reject
default_process_limit = {processes}
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_event_limit_exceptions = static:all
initial_destination_concurrency = {sessions}
default_destination_concurrency_limit = {sessions}
smtp_connection_cache_on_demand = yes
smtp_connection_cache_destinations = {cache}
smtp_connection_reuse_count_limit = 0
smtp_connection_reuse_time_limit = 3600s
qmgr_message_active_limit = 50000
qmgr_message_recipient_limit = 50000
"""

MASTER = """
{listen[0]}:{listen[1]} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Server:
    """All of its processes, in one control group."""

    PACKAGES = {"postfix": "postfix"}
    NOTES = [
        "default_process_limit: five times the sessions, so that no session waits for a process",
        "in_flow_delay = 0: senders aren't slowed down when mail comes in faster than it goes out",
        "smtpd_client_*: no limits for the one client, and anvil isn't asked",
        "*_destination_concurrency*: as many connections to the sink as there are senders, at once",
        "smtp_connection_cache_*: connections to the sink are kept and used again without end",
        "smtp_dns_support_level, smtp_host_lookup, smtpd_peername_lookup: no DNS",
        "qmgr_*_limit: the whole run fits into the active queue",
        "no content filter, no TLS, no chroot; syncing is Postfix's default and can't be turned off",
    ]

    def __init__(self, setup):
        if os.geteuid() != 0:
            raise Failure("Postfix starts as root only; leave it out with --servers courser")
        self.setup = setup
        self.conf = setup.home / "conf"
        for name in ("conf", "queue", "data"):
            (setup.home / name).mkdir()
        shutil.chown(setup.home / "data", "postfix")
        values = dict(
            home=setup.home,
            listen=setup.listen,
            sink=setup.sink,
            sessions=setup.sessions,
            processes=max(100, 5 * setup.sessions),
            cache=f"[{setup.sink[0]}]:{setup.sink[1]}" if setup.options.get("cache", True) else "",
        )
        (self.conf / "main.cf").write_text(MAIN.format(**values))
        (self.conf / "master.cf").write_text(MASTER.format(**values))

    def version(self):
        out = subprocess.run([find("postconf"), "-dh", "mail_version"], capture_output=True, text=True)
        return f"Postfix {out.stdout.strip()}"

    def start(self, group):
        log = open(self.setup.home / "postfix.log", "ab")
        command = [find("postfix"), "-c", self.conf, "start"]
        started = group.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log).wait()
        log.close()
        if started != 0:
            raise Failure(f"Postfix doesn't start:\n{(self.setup.home / 'postfix.log').read_text()}")
        wait_for(self.setup.listen)

    def stop(self):
        command = [find("postfix"), "-c", self.conf, "stop"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def waiting(self):
        queue = self.setup.home / "queue"
        return sum(
            1
            for name in ("maildrop", "incoming", "active", "deferred")
            for f in (queue / name).rglob("*")
            if f.is_file()
        )
