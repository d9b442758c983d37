"""Courser, signing each message with RSA-2048."""

import importlib.util
import os
import subprocess
from pathlib import Path

from measure.system import Failure

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("server_courser_plain", HERE / "courser.py")
courser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(courser)

KEY = """
[[dkim.key]]
domain = "example.com"
selector = "load"
file = "{file}"
"""


class Server(courser.Server):
    """As courser.py, with a key made for the run."""

    KIND = "rsa"
    NOTES = [*courser.Server.NOTES, "dkim: one key of example.com, relaxed/relaxed, the default list of fields"]

    def __init__(self, setup):
        file = setup.home / "load.pem"
        setup.extra += KEY.format(file=file)
        super().__init__(setup)
        made = subprocess.run(
            [self.program, "dkim", "keygen", "--domain", "example.com", "--selector", "load", "--type", self.KIND,
             "--file", file],
            capture_output=True, text=True, env={k: v for k, v in os.environ.items() if not k.startswith("COURSER_")},
        )
        if made.returncode != 0:
            raise Failure(f"courser dkim keygen: {made.stderr}")
