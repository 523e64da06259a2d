"""A scripted HTTPS server on loopback: what Hadoop's web servers do, and what they should not."""

from __future__ import annotations

import base64
import http.server
import ssl
import threading
from types import SimpleNamespace


class Server:
    """Answers each request with answer(request); keeps what was asked."""

    def __init__(self, key, certificate, answer):
        self.seen = []
        self.connections = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                server.connections += 1

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                sent = self.rfile.read(length)
                # The handler itself serves all requests of a connection.
                server.seen.append(
                    SimpleNamespace(
                        path=self.path,
                        headers=self.headers,
                        sent=sent,
                        resumed=self.connection.session_reused,
                    )
                )
                status, headers, body = answer(self)
                if status is None:
                    # Hang up without a word.
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_arguments):
                return

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.httpd.handle_error = lambda *_arguments: None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.httpd.socket = context.wrap_socket(
            self.httpd.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self.httpd.server_address[1]
        self.url = f"https://localhost:{self.port}"
        threading.Thread(target=self.httpd.serve_forever, args=[0.01], daemon=True).start()

    def stop(self):
        """Close it."""
        self.httpd.shutdown()
        self.httpd.server_close()


class Context:
    """A security context that believes the server when it says 'proof'."""

    def __init__(self):
        self.complete = False

    def step(self, token):
        if token != b"proof":
            raise ValueError("the token is wrong")
        self.complete = True


class Login:
    """A caller who always has a ticket."""

    who = "somebody"

    def __init__(self):
        self.contexts = 0

    def context(self, _host):
        self.contexts += 1
        return Context(), b"ticket"


PROOF = ("WWW-Authenticate", f"Negotiate {base64.b64encode(b'proof').decode()}")
COOKIE = ("Set-Cookie", 'hadoop.auth="u=somebody&s=1"; Path=/; Secure; HttpOnly')


def kerberized(answer, cookies=("u=somebody&s=1",)):
    """An answer that wants a ticket or one of these cookies first, as Hadoop's filter does."""

    def guarded(request):
        if request.headers.get("Cookie") in [f'hadoop.auth="{cookie}"' for cookie in cookies]:
            return answer(request)
        if request.headers.get("Authorization") == "Negotiate dGlja2V0":
            status, headers, body = answer(request)
            return status, [PROOF, COOKIE, *headers], body
        return 401, [("WWW-Authenticate", "Negotiate")], b"Authentication required"

    return guarded
