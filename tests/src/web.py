"""A web server by HTTPS: python3 web.py ADDRESS FOLDER

FOLDER has for each host HOST.pem and HOST.key, and HOST.json with what it answers: status, headers, body,
as they are when it is asked. Each request is a line of FOLDER/requests.log.
"""

import http.server
import json
import os
import ssl
import sys

ADDRESS, FOLDER = sys.argv[1:]


def file_of(name, ending):
    return os.path.join(FOLDER, name + ending)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        host = self.headers.get("Host", "")
        with open(file_of("requests", ".log"), "a") as log:
            log.write(f"{host}{self.path}\n")
        with open(file_of(host, ".json")) as file:
            answer = json.load(file)
        body = answer["body"].encode()
        self.send_response(answer["status"])
        for name, value in answer["headers"].items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64

    def get_request(self):
        sock, address = self.socket.accept()
        # The handshake comes with the first read, in a thread of its own.
        tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return tls, address


def context_of(host):
    new = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    new.load_cert_chain(file_of(host, ".pem"), file_of(host, ".key"))
    return new


def by_name(tls, name, _):
    if name is None or not os.path.exists(file_of(name, ".pem")):
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    tls.context = context_of(name)
    return None


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.sni_callback = by_name
Server((ADDRESS, 443), Handler).serve_forever()
