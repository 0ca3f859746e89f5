"""Fetching from a server that misbehaves: every limit holds, every courtesy is kept."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from misbehaving_server import (
    cut,
    drip,
    drip_headers,
    endless,
    in_turn,
    picture,
    redirect,
    send,
    serving,
    stall,
    status,
)

from fpclass.data.collect import address
from fpclass.data.collect import client as clients
from fpclass.data.collect.address import Refused, is_public, normal_url
from fpclass.data.collect.client import Client, Later, Stopped

DATA = picture()


def only_this_server(place: str) -> bool:
    return place == "127.0.0.1" or is_public(place)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(clients, "BACK_OFF_SECONDS", (0.0, 0.0, 0.0))


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def client():
    client = Client(delay_seconds=0.0, is_allowed=only_this_server, user_agent="fpclass/1 (test)")
    yield client
    client.halt()


def get(client, server, path="/a.png", max_bytes=100_000, **options):
    return client.get(path if "://" in path else server.url(path), max_bytes=max_bytes, **options).data


def refused(client, server, *words, path="/a.png", kind=Refused, **options):
    with pytest.raises(kind) as caught:
        get(client, server, path, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return caught.value


# --- where it may go -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "192.0.0.1", "192.0.0.9",
        "192.0.0.170", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110",
        "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:c0a8:101::1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "::7f00:1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "3fff::1", "4000::1",
    ],
)  # fmt: skip
def test_not_of_the_public_internet(place):
    assert not is_public(place)


@pytest.mark.parametrize(
    "place",
    ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "192.0.1.1", "168.63.129.17"],
)
def test_of_the_public_internet(place):
    assert is_public(place)


def test_this_machine_is_refused_without_a_request(server):
    server.pages["/a.png"] = send(DATA)
    client = Client(delay_seconds=0.0)
    refused(client, server, "127.0.0.1", "public")
    refused(client, server, "public", path=server.url("/a.png", "localhost"))
    refused(client, server, "public", path=server.url("/a.png", "0"))
    refused(client, server, "public", path=server.url("/a.png", "2130706433"))
    refused(client, server, "public", path=server.url("/a.png", "[::ffff:127.0.0.1]"))
    assert server.requests == []


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/secret", "http://[::1]:{port}/secret", "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/", "//192.168.0.1/", "http://0.0.0.0:{port}/secret", "http://user@127.0.0.1:{port}/secret",
        "file:///etc/passwd", "ftp://127.0.0.1/secret", "gopher://127.0.0.1:{port}/", "http://[::1",
    ],
)  # fmt: skip
def test_redirects_to_where_it_may_not_go(client, server, location):
    server.pages["/a.png"] = redirect(location.format(port=server.port))
    server.pages["/secret"] = send(DATA)
    refused(client, server)
    assert server.asked() == ["/a.png"]


def test_a_name_is_looked_up_once_and_checked(client, server, monkeypatch):
    """A name server that first shows a harmless address, and then another one, gains nothing."""
    server.pages["/a.png"] = send(DATA)
    answers = []

    def look_up(host, port, *args, **options):
        address = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = server.url("/a.png", "rebinding.example")
    answers[:] = ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
    assert get(client, server, url) == DATA
    assert answers == ["127.0.0.2"], "robots.txt and the picture are looked up once each"
    refused(client, server, "127.0.0.2", path=url)
    assert len(server.requests) == 2


def test_one_private_address_among_several_refuses_all(client, server, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, server.port)) for a in ("127.0.0.1", "192.168.3.4")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    refused(client, server, "192.168.3.4", path=server.url("/a.png", "both.example"))
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://EXAMPLE.com", "http://example.com/"),
        (" https://example.com:443/a b.jpg#top ", "https://example.com/a%20b.jpg"),
        ("http://example.com:8080/ヒール.jpg?q=é&r=%20", "http://example.com:8080/%E3%83%92%E3%83%BC%E3%83%AB.jpg?q=%C3%A9&r=%20"),
        ("http://bücher.example./x", "http://xn--bcher-kva.example/x"),
        ("http://[2001:DB8::1]:81/x", "http://[2001:db8::1]:81/x"),
    ],
)  # fmt: skip
def test_one_spelling_of_an_address(text, expected):
    assert normal_url(text) == expected == normal_url(expected)


@pytest.mark.parametrize(
    "text", ["", "a.jpg", "javascript:alert(1)", "data:image/png;base64,AA", "http://:80/", "http://a:b@c/", "http://a:99999/",
             "http://[::1/", f"http://{'a' * 70}.example/", "https:///a", "http://a..b/"],
)  # fmt: skip
def test_what_is_no_address(text):
    with pytest.raises(Refused):
        normal_url(text)


# --- what servers do -----------------------------------------------------------------------------


def test_fetched_and_told_who_asks(client, server):
    server.pages["/a.png"] = send(DATA)
    assert get(client, server) == DATA
    assert [path for path, *_ in server.requests] == ["/robots.txt", "/a.png"]
    for _, _, headers in server.requests:
        assert headers["User-Agent"] == "fpclass/1 (test)"
        assert headers["Host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("code", [404, 403, 410, 401, 204])
def test_a_final_answer_is_final(client, server, code):
    server.pages["/a.png"] = status(code)
    assert refused(client, server, str(code)).status == code
    assert server.asked() == ["/a.png"]


@pytest.mark.parametrize("trouble", [status(503), status(429), status(500), cut(DATA, 100), cut(DATA, 0)])
def test_trouble_is_tried_again(client, server, trouble):
    server.pages["/a.png"] = in_turn(trouble, trouble, send(DATA))
    assert get(client, server) == DATA
    assert server.asked() == ["/a.png"] * 3


def test_trouble_without_end_is_left_for_later(client, server):
    server.pages["/a.png"] = status(503)
    refused(client, server, "503", kind=Later)
    assert server.asked() == ["/a.png"] * 4


def test_waits_grow(client, server, monkeypatch):
    monkeypatch.setattr(clients, "BACK_OFF_SECONDS", (0.1, 0.2, 0.4))
    server.pages["/a.png"] = status(503)
    refused(client, server, kind=Later)
    times = [moment for path, moment, _ in server.requests if path == "/a.png"]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert len(waits) == 3
    for wait, expected in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert expected <= wait < expected + 1


def test_retry_after_is_honoured(client, server):
    server.pages["/a.png"] = in_turn(status(429, Retry_After=1), send(DATA))
    assert get(client, server) == DATA
    first, second = (moment for path, moment, _ in server.requests if path == "/a.png")
    assert second - first >= 1


def test_retry_after_as_a_date(client, server, monkeypatch):
    waits = []
    monkeypatch.setattr(client, "_pause", waits.append)
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    server.pages["/a.png"] = in_turn(status(503, Retry_After=date), status(503, Retry_After="soon"), send(DATA))
    assert get(client, server) == DATA
    assert 50 < max(waits) <= 60
    assert sum(wait > 1 for wait in waits) == 1


@pytest.mark.parametrize(
    "when", ["soon", "Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Mon, 99 Jan 9999999999999999"]
)
def test_a_retry_after_that_makes_no_sense(client, server, when):
    server.pages["/a.png"] = in_turn(status(503, Retry_After=when), send(DATA))
    assert get(client, server) == DATA


def test_a_long_retry_after_is_not_waited_for(client, server):
    server.pages["/a.png"] = status(429, Retry_After=86_400)
    assert refused(client, server, "429", kind=Later).wait_seconds == 86_400
    assert server.asked() == ["/a.png"]


def test_an_endless_body_ends(client, server):
    server.pages["/a.png"] = endless()
    started = time.monotonic()
    refused(client, server, "longer than 0.3 MB", max_bytes=300_000)
    assert time.monotonic() - started < 5
    assert server.asked() == ["/a.png"]


def test_a_length_that_is_too_much_is_not_read(client, server):
    server.pages["/a.png"] = lambda answerer: answerer.head(200, Content_Length=10**12)
    refused(client, server, "longer than", "1000000.0 MB")


@pytest.mark.parametrize("slow", [drip(DATA * 20), drip_headers()])
def test_what_drips_is_ended(client, server, monkeypatch, slow):
    """Every byte comes in time, all of them never."""
    monkeypatch.setattr(clients, "TOTAL_SECONDS", 0.4)
    server.pages["/a.png"] = slow
    started = time.monotonic()
    refused(client, server, "not whole after 0.4 seconds", kind=Later)
    assert 0.4 <= time.monotonic() - started < 3
    assert server.asked() == ["/a.png"], "once is enough"


def test_silence_is_a_loss(client, server, monkeypatch):
    monkeypatch.setattr(clients, "SILENCE_SECONDS", 0.3)
    server.pages["/a.png"] = in_turn(stall(DATA, 100), send(DATA))
    assert get(client, server) == DATA
    assert server.asked() == ["/a.png"] * 2


def test_compressed_is_refused(client, server):
    server.pages["/a.png"] = send(DATA, Content_Encoding="gzip")
    refused(client, server, "gzip")


def test_nobody_there(client, server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.png"
    refused(client, server, "robots.txt", "broke off", kind=Later, path=url)


def test_no_such_host(client, server, monkeypatch):
    def look_up(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    refused(client, server, "no such host", kind=Later, path="http://nowhere.example/a.png")


@pytest.mark.parametrize("junk", [b"", b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100])
def test_not_even_http(client, server, junk):
    server.pages["/a.png"] = lambda answerer: answerer.wfile.write(junk)
    refused(client, server, "broke off", kind=Later)
    assert server.asked() == ["/a.png"] * 4


def test_no_tls(client, server):
    refused(client, server, "broke off", kind=Later, path=server.url("/a.png").replace("http:", "https:"))


@pytest.fixture
def secure(tmp_path):
    """A server with a certificate for 127.0.0.1 that only itself vouches for; and the file of that."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as running:
        yield running, certificate


def test_a_handshake_that_drips_is_ended(client, monkeypatch):
    """The limit holds from the start, not only once there is an encrypted connection."""
    monkeypatch.setattr(clients, "TOTAL_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip_handshake():
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB
                for _ in range(100):
                    peer.sendall(b"\x02")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip_handshake)
        thread.start()
        started = time.monotonic()
        with pytest.raises(Later, match=r"not whole after 0.4 seconds"):
            client.get(f"https://127.0.0.1:{listener.getsockname()[1]}/a.png", max_bytes=1000, is_crawling=False)
        assert time.monotonic() - started < 3
        thread.join()


def test_the_limit_counts_the_look_up(client, server, monkeypatch):
    """What took too long before there was a connection to end is ended as soon as there is one."""
    monkeypatch.setattr(clients, "TOTAL_SECONDS", 0.2)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **named: (time.sleep(0.4), real(*args, **named))[1])
    server.pages["/a.png"] = send(DATA)
    refused(client, server, "not whole", kind=Later, is_crawling=False)
    assert server.requests == []


def test_a_certificate_that_nobody_vouches_for(client, secure):
    server, _ = secure
    refused(client, server, "certificate", path=server.url("/a.png").replace("http:", "https:"))
    assert server.requests == []


def test_encrypted(client, secure, monkeypatch):
    server, certificate = secure
    monkeypatch.setattr(address, "_tls", lambda: ssl.create_default_context(cafile=str(certificate)))
    monkeypatch.setattr(clients, "TOTAL_SECONDS", 0.5)
    url = server.url("/a.png").replace("http:", "https:")
    server.pages["/a.png"] = in_turn(send(DATA), drip(DATA * 20))
    assert get(client, server, url) == DATA
    refused(client, server, "not whole", kind=Later, path=url)


# --- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(client, server, code):
    server.pages["/a.png"] = redirect("b/c d.png", code)
    server.pages["/b/c%20d.png"] = redirect("/é.png", code)
    server.pages["/%C3%A9.png"] = send(DATA)
    assert get(client, server) == DATA


def test_redirects_to_a_name_in_utf_8(client, server):
    server.pages["/a.png"] = redirect(
        "/ヒール.png".encode().decode("latin-1")
    )  # as the bytes of UTF-8 go over the line
    server.pages["/%E3%83%92%E3%83%BC%E3%83%AB.png"] = send(DATA)
    assert get(client, server) == DATA


def test_redirects_in_a_circle(client, server):
    server.pages["/a.png"] = redirect("/b.png")
    server.pages["/b.png"] = redirect("/a.png")
    refused(client, server, "redirects")
    assert len(server.asked()) == clients.MAX_REDIRECTS + 1


def test_secrets_do_not_travel(client, server):
    server.pages["/a.png"] = redirect("/b.png")
    server.pages["/b.png"] = send(DATA)
    get(client, server, headers={"Authorization": "Bearer secret"}, is_crawling=False)
    assert [headers.get("Authorization") for *_, headers in server.requests] == ["Bearer secret", None]


# --- courtesies ----------------------------------------------------------------------------------


def robots(text, code=200):
    return send(text.encode(), "text/plain") if code == 200 else status(code)


def test_robots_are_obeyed(client, server):
    rules = (
        "User-agent: *\nDisallow: /\n\nUser-agent: fpclass\nDisallow: /private\nDisallow: /*.gif$\nAllow: /private/ok\n"
    )
    server.pages |= {"/robots.txt": robots(rules)} | dict.fromkeys(
        ["/a.png", "/private/ok.png", "/private/x.png", "/x.gif"], send(DATA)
    )
    assert get(client, server, "/a.png") == get(client, server, "/private/ok.png") == DATA
    refused(client, server, "robots.txt", path="/private/x.png")
    refused(client, server, "robots.txt", path="/x.gif")
    assert [path for path, *_ in server.requests] == ["/robots.txt", "/a.png", "/private/ok.png"], "asked for once"


def test_robots_hold_for_where_redirects_lead(client, server):
    server.pages |= {
        "/robots.txt": robots("User-agent: *\nDisallow: /private\n"),
        "/a.png": redirect("/private/x.png"),
        "/private/x.png": send(DATA),
    }
    refused(client, server, "robots.txt")
    assert server.asked() == ["/a.png"]


def test_without_robots_all_is_allowed(client, server):
    server.pages |= {"/a.png": send(DATA), "/robots.txt": status(403)}
    assert get(client, server) == DATA


def test_robots_that_cannot_be_had_forbid_all(client, server):
    server.pages |= {"/a.png": send(DATA), "/robots.txt": status(500)}
    refused(client, server, "robots.txt", "500", kind=Later)
    assert server.asked() == []


def test_robots_without_an_end(client, server, monkeypatch):
    monkeypatch.setattr(clients, "ROBOTS_BYTES", 10_000)
    server.pages |= {"/a.png": send(DATA), "/robots.txt": endless(b"# nothing\n" * 1000)}
    refused(client, server, "robots.txt", "longer than")
    assert server.asked() == []


def test_robots_that_are_a_page(client, server):
    server.pages |= {"/a.png": send(DATA), "/robots.txt": send(b"<html>Welcome!\xff</html>", "text/html")}
    assert get(client, server) == DATA


def test_turns(server):
    server.pages |= {"/a.png": send(DATA), "/b.png": send(DATA)}
    client = Client(delay_seconds=0.2, is_allowed=only_this_server)
    threads = [threading.Thread(target=get, args=(client, server, path)) for path in ("/a.png", "/b.png", "/a.png")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(moment for _, moment, _ in server.requests)
    assert len(times) == 4
    assert min(after - before for before, after in itertools.pairwise(times)) > 0.15


def test_a_crawl_delay_counts(client, server):
    server.pages |= {"/a.png": send(DATA), "/robots.txt": robots("User-agent: *\nCrawl-delay: 0.3\n")}
    get(client, server)
    get(client, server)
    first, second = (moment for path, moment, _ in server.requests if path == "/a.png")
    assert second - first > 0.25


def test_a_crawl_delay_without_end(client, server):
    server.pages |= {"/a.png": send(DATA), "/robots.txt": robots("User-agent: *\nCrawl-delay: 9999\n")}
    refused(client, server, "9999 seconds")
    assert server.asked() == []


@pytest.mark.parametrize(
    ("tag", "is_kept"),
    [
        ("noai", False),
        ("noarchive, NoImageAI", False),
        ("fpclass: noindex", False),
        ("otherbot: noindex", True),
        ("nofollow", True),
    ],
)
def test_opt_outs_are_respected(client, server, tag, is_kept):
    server.pages["/a.png"] = send(DATA, X_Robots_Tag=tag)
    if is_kept:
        assert get(client, server) == DATA
    else:
        refused(client, server, "X-Robots-Tag")


def test_a_halt_ends_waits_and_bodies(client, server):
    server.pages["/a.png"] = stall(DATA, 100)
    server.pages["/b.png"] = status(503, Retry_After=60)
    caught = []

    def fetch(path):
        try:
            get(client, server, path)
        except Exception as error:
            caught.append(type(error))

    threads = [threading.Thread(target=fetch, args=(path,)) for path in ("/a.png", "/b.png")]
    for thread in threads:
        thread.start()
    while len(server.asked()) < 2:
        time.sleep(0.01)
    time.sleep(0.1)
    client.halt()
    for thread in threads:
        thread.join(3)
    assert caught == [Stopped, Stopped]
