import socket
import ssl

import pytest

from tests.vision.web import IMAGE, self_signed, serve
from visionserve.vision.addresses import is_public
from visionserve.vision.errors import UrlError
from visionserve.vision.fetch import Fetcher


@pytest.fixture
def server():
    running, stop = serve()
    running.url = f"http://127.0.0.1:{running.server_port}"
    yield running
    stop()


def refusal(url, **options):
    with pytest.raises(UrlError) as caught:
        Fetcher(**options).get(url)
    return str(caught.value)


def test_an_allowed_prefix_is_fetched_though_private(server):
    fetcher = Fetcher([server.url + "/images/"])
    assert fetcher.get(server.url + "/images/a cat.jpg?size=1#top") == IMAGE
    assert server.seen == [("/images/a%20cat.jpg?size=1", f"127.0.0.1:{server.server_port}")]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "0.0.0.0", "0", "[::ffff:127.0.0.1]", "LOCALHOST", "2130706433",
        "0x7f000001", "0177.0.0.1", "0x7f.1", "[::1]", "[::]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
    ],
)  # fmt: skip
def test_this_machine_is_refused_and_never_asked(server, host):
    url = f"http://{host}:{server.server_port}/images/cat.jpg"
    assert refusal(url) == "is not allowed: {} is not a public address".format(host.strip("[]").lower())
    assert server.seen == []


@pytest.mark.parametrize(
    "host", ["\uff11\uff12\uff17.0.0.1", "\u24db\u24de\u24d2alhost", "127\u30020\u30020\u30021", "127.0.0.1."]
)
def test_this_machine_in_other_letters_is_refused_and_never_asked(server, host):
    sentence = refusal(f"http://{host}:{server.server_port}/images/cat.jpg")
    assert sentence.startswith(("is not allowed: ", "is not a URL", "does not answer: there is no host "))
    assert server.seen == []


def test_nothing_in_a_url_ends_a_line_of_the_request(server):
    Fetcher([server.url]).get(server.url + "/a\r\nX-Evil: 1\r\n\r\nb\tc d\0")
    assert [path for path, _ in server.seen] == ["/aX-Evil:%201bc%20d%00"]


def test_a_prefix_opens_nothing_beside_itself(server):
    allowed = [server.url + "/images/"]
    for path in ("/", "/secret", "/images/../secret", "/images/%2e%2e/secret", "/images/..%2fsecret", "/images/..\\x"):
        assert "is not a public address" in refusal(server.url + path, allow_urls=allowed)
    port = server.server_port
    for url in (
        "http://127.0.0.1/images/",
        f"https://127.0.0.1:{port}/images/",
        f"http://127.0.0.2:{port}/images/",
    ):
        assert "is not a public address" in refusal(url, allow_urls=allowed)
    assert server.seen == []


def test_a_prefix_is_no_prefix_of_another_host(server):
    url = server.url.replace("127.0.0.1", "127.0.0.1.localhost")
    sentence = refusal(url + "/cat.jpg", allow_urls=[server.url])
    assert sentence.startswith(("is not allowed: 127.0.0.1.localhost", "does not answer: there is no host"))
    assert "without a user name" in refusal("http://127.0.0.1@localhost/", allow_urls=["http://127.0.0.1"])
    assert server.seen == []


def test_redirects_are_followed_as_far_as_they_are_allowed(server):
    fetcher = Fetcher([server.url])
    assert fetcher.get(server.url + "/redirect/" + server.url + "/cat.jpg") == IMAGE
    assert fetcher.get(server.url + "/redirect//redirect//cat.jpg") == IMAGE
    assert refusal(server.url + "/loop", allow_urls=[server.url]) == "leads through more than 5 redirects"
    assert [path for path, _ in server.seen].count("/loop") == 6


def test_a_redirect_to_a_private_address_is_refused(server):
    for target in (f"http://localhost:{server.server_port}/secret", "http://169.254.169.254/latest/meta-data/"):
        sentence = refusal(server.url + "/redirect/" + target, allow_urls=[server.url])
        assert sentence.startswith("is not allowed: ")
    sentence = refusal(server.url + "/redirect/file:///etc/passwd", allow_urls=[server.url])
    assert sentence == "is not allowed: only http:// and https:// URLs are fetched"
    assert not any(path == "/secret" for path, _ in server.seen)


def test_the_name_is_looked_up_once_so_that_no_second_answer_counts(server, monkeypatch):
    # A fake of the system's look-up: a name server that rebinds can't be run here.
    answers = []

    def rebinding(host, port, *args, **kwargs):
        answers.append(host)
        address = "127.0.0.1" if len(answers) == 1 else "10.255.255.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    real = socket.getaddrinfo
    name = f"http://rebinding.example:{server.server_port}"
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda h, *a, **k: (rebinding if h == "rebinding.example" else real)(h, *a, **k)
    )
    assert Fetcher([name]).get(name + "/cat.jpg") == IMAGE
    assert answers == ["rebinding.example"]
    assert server.seen[0][1] == f"rebinding.example:{server.server_port}"


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    # A fake of the system's look-up: no public name with a private second address can be counted on.
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    assert refusal("http://mixed.example/cat.jpg") == "is not allowed: mixed.example is not a public address"


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.100.100.200",
        "168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%1",
        "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::a00:1",
        "192.0.0.192", "::ffff:192.0.0.192", "64:ff9b:1::a00:1", "::a00:1", "2002:a9fe:a9fe::",
        "2002:a00:1::", "2001:db8::1", "2001:0:808:808::f5ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://example.com/cat.jpg", "is not allowed: only http:// and https:// URLs are fetched"),
        ("file:///etc/passwd", "is not allowed: only http:// and https:// URLs are fetched"),
        ("cat.jpg", "is not allowed: only http:// and https:// URLs are fetched"),
        ("http:///cat.jpg", "is not allowed: it must be http(s)://HOST[:PORT]/PATH, without a user name"),
        ("http://me:secret@example.com/", "is not allowed: it must be http(s)://HOST[:PORT]/PATH, without a user name"),
        ("http://example.com:99999/", "is not a URL"),
        ("http://[::1/", "is not a URL"),
        ("http://" + "a" * 64 + ".com/", "is not a URL"),
        ("http://example.com/" + "a" * 8192, "is not a URL: it has more than 8192 characters"),
        ("http://example.com/\ud800", "is not a URL"),
        ("http://exam ple.com/", "is not a URL"),
        ('http://example".com/', "is not a URL"),
        (
            "http://example.com\\@127.0.0.1/",
            "is not allowed: it must be http(s)://HOST[:PORT]/PATH, without a user name",
        ),
        (
            "http://127.0.0.1%2f@example.com/",
            "is not allowed: it must be http(s)://HOST[:PORT]/PATH, without a user name",
        ),
        ("gopher://example.com/", "is not allowed: only http:// and https:// URLs are fetched"),
        ("http://no-such-host.invalid/", "does not answer: there is no host no-such-host.invalid"),
    ],
)
def test_what_is_not_a_url_to_fetch(url, sentence):
    assert refusal(url) == sentence


def test_urls_can_be_turned_off(server):
    sentence = refusal(server.url, allow_urls=False)
    assert sentence == "is not allowed: URLs are turned off for this API, so send the image itself"
    assert server.seen == []


def test_a_body_that_is_too_large_is_refused_before_it_came(server):
    limits = {"allow_urls": [server.url], "max_bytes": 1000000}
    for path in ("/announced", "/endless"):
        assert refusal(server.url + path, **limits) == "holds more than 1 MB: send a smaller image"


def test_a_refused_server_is_hung_up_on_at_once(server):
    """It has more to send and goes on as long as somebody listens; the kept error must not keep the connection."""
    with pytest.raises(UrlError) as kept:
        Fetcher([server.url], max_bytes=1000000).get(server.url + "/endless")
    assert server.hung_up.wait(60), kept.value


@pytest.mark.parametrize("path", ["/dripping", "/dripping-header"])
def test_a_server_that_drips_is_given_up_after_the_whole_time(server, path):
    sentence = refusal(server.url + path, allow_urls=[server.url], timeout=0.3)
    assert sentence == "does not answer within 0.3 s"


def test_a_server_that_says_nothing_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        for scheme in ("http", "https"):
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/"
            assert refusal(url, allow_urls=[url], timeout=0.3) == "does not answer within 0.3 s"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/nine", "does not answer: "),
        ("/endless-header", "does not answer: "),
        ("/many-headers", "does not answer: "),
        ("/redirect/http://[", "leads to what is not a URL"),
        ("/redirect/ftp://example.com/", "is not allowed: only http:// and https:// URLs are fetched"),
        ("/redirect/http://me@localhost/", "is not allowed: it must be http(s)://"),
    ],
)
def test_a_hostile_answer_is_said(server, path, sentence):
    assert refusal(server.url + path, allow_urls=[server.url], timeout=60).startswith(sentence)


def test_a_compressed_answer_is_not_unpacked(server):
    assert len(Fetcher([server.url], max_bytes=100000).get(server.url + "/bomb")) < 20000


def test_wrong_answers_are_said(server):
    allowed = {"allow_urls": [server.url]}
    assert refusal(server.url + "/missing", **allowed) == "answers 404 Not Found"
    assert refusal(server.url + "/cut", **allowed).startswith("does not answer: ")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        assert refusal(url, allow_urls=[url]) == "does not answer: Connection refused"


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert Fetcher([server.url]).get(server.url + "/cat.jpg") == IMAGE


def test_ipv6_is_fetched():
    try:
        server, stop = serve("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    try:
        url = f"http://[::1]:{server.server_port}/"
        assert Fetcher([url]).get(url) == IMAGE
        assert server.seen == [("/", f"[::1]:{server.server_port}")]
    finally:
        stop()


def test_https_checks_the_name_in_the_url(tmp_path, monkeypatch):
    certificate = self_signed(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server, stop = serve(context=context)
    try:
        url = f"https://localhost:{server.server_port}/"
        by_number = url.replace("localhost", "127.0.0.1")
        allowed = [url, by_number]
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(url, allow_urls=allowed)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Fetcher(allowed).get(url) == IMAGE
        assert "127.0.0.1" in refusal(by_number, allow_urls=allowed)
        assert server.seen == [("/", f"localhost:{server.server_port}")]
    finally:
        stop()
