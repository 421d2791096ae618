"""Clients that send slowly: a real server in a thread, with short limits."""

import http.client
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from lapgan.study import guards, serve
from lapgan.study.app import build_app
from lapgan.study.store import Store


@contextmanager
def listening(study):
    """The address of the study, served as `serve` does it."""
    store = Store(study)
    listener = socket.create_server(("127.0.0.1", 0))
    server = serve._make_server(build_app(study, store, "open-sesame"), None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join()
        store.close()


def receive_all(client):
    """What the server sends until it closes the connection."""
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


@pytest.fixture
def patient(monkeypatch):
    """Limits of a third of a second in place of ten."""
    monkeypatch.setattr(serve, "_HEADER_SECONDS", 0.3)
    monkeypatch.setattr(guards, "BODY_SECONDS", 0.3)


def test_a_request_without_an_end_is_closed(make_study, patient):
    with listening(make_study()) as address:
        with socket.create_connection(address, 30) as client:
            client.sendall(b"GET /declined HTTP/1.1\r\nHost: x\r\n")
            assert receive_all(client) == b""
        with socket.create_connection(address, 30) as client:
            head = b"POST /join HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
            client.sendall(head + b"PROLIFIC_PID=")
            assert receive_all(client).startswith(b"HTTP/1.1 408 ")


def test_a_slow_second_request_is_closed_and_an_idle_connection_is_not(make_study, patient):
    with listening(make_study()) as address:
        connection = http.client.HTTPConnection(*address, timeout=30)
        for _ in range(2):
            connection.request("GET", "/declined")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            time.sleep(0.6)  # longer than the limit, between two requests
        connection.sock.sendall(b"GET /declined HTTP/1.1\r\n")
        assert receive_all(connection.sock) == b""
        connection.close()
