"""Courser, signing each message with Ed25519."""

import importlib.util
from pathlib import Path

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("server_courser_signing", HERE / "courser_rsa.py")
signing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signing)


class Server(signing.Server):
    """As courser_rsa.py, with a key of another kind."""

    KIND = "ed25519"
