"""Postfix with opendkim as its milter, signing each message with RSA-2048. Needs root."""

import importlib.util
import socket
import subprocess
import time
from pathlib import Path

from measure.system import Failure, find, free_port, stop

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("server_postfix_plain", HERE / "postfix.py")
postfix = importlib.util.module_from_spec(spec)
spec.loader.exec_module(postfix)

OPENDKIM = """
Background no
Canonicalization relaxed/relaxed
Domain example.com
Selector load
KeyFile {key}
Mode s
Socket inet:{port}@127.0.0.1
InternalHosts 127.0.0.0/8
SignatureAlgorithm rsa-sha256
RequireSafeKeys no
OversignHeaders From,To,Cc,Subject,Date,Message-ID,Reply-To,List-Unsubscribe,List-Unsubscribe-Post
Syslog no
"""

MILTER = """
smtpd_milters = inet:127.0.0.1:{port}
milter_default_action = tempfail
"""


class Server(postfix.Server):
    """As postfix.py, with opendkim in the same control group."""

    PACKAGES = {**postfix.Server.PACKAGES, "opendkim": "opendkim", "openssl": "openssl"}
    NOTES = [*postfix.Server.NOTES, "opendkim: relaxed/relaxed, the usual fields over-signed; milter_default_action = tempfail"]

    def __init__(self, setup):
        super().__init__(setup)
        self.port, self.opendkim = free_port(), None
        key = setup.home / "load.pem"
        made = subprocess.run([find("openssl"), "genrsa", "-out", key, "2048"], capture_output=True)
        if made.returncode != 0:
            raise Failure("openssl makes no key")
        (setup.home / "opendkim.conf").write_text(OPENDKIM.format(key=key, port=self.port))
        with open(self.conf / "main.cf", "a") as main:
            main.write(MILTER.format(port=self.port))

    def start(self, group):
        log = open(self.setup.home / "opendkim.log", "ab")
        command = [find("opendkim"), "-f", "-x", self.setup.home / "opendkim.conf"]
        self.opendkim = group.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        # A milter says nothing until it is spoken to.
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > end or self.opendkim.poll() is not None:
                    log = (self.setup.home / "opendkim.log").read_text()
                    raise Failure(f"opendkim doesn't start:\n{log}") from None
                time.sleep(0.05)
        super().start(group)

    def stop(self):
        super().stop()
        if self.opendkim:
            stop(self.opendkim)
