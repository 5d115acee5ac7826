"""What a cell may say of a server."""

import re

import pytest
from tso.config import CellSection
from tso.errors import ConfigError
from tso.sample.connect import is_here
from tso.sample.endpoint import Endpoint, endpoint_of, endpoints, on_server

URL = "http://localhost:8000/v1"


def test_an_endpoint_is_known_by_its_path():
    spec = CellSection(name="a", model="openai:org/big", base_url=URL + "/", api_key_env="KEY")
    found = endpoint_of(spec)
    assert found == Endpoint(URL, "org/big", "KEY")
    assert endpoints([spec, spec]) == {f"{URL}#org/big": found}
    assert on_server(found.path)
    assert endpoint_of(CellSection(name="a", model="policy")) is None
    assert not on_server("org/model")


def test_the_case_of_a_scheme_makes_no_other_endpoint():
    spec = CellSection(name="a", model="openai:big", base_url="HTTP://localhost:8000/v1/")
    assert endpoint_of(spec) == Endpoint(URL, "big")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "openai:big"}, "cell 'a': give model: openai:NAME and the server's base_url"),
        ({"model": "openai:", "base_url": URL}, "give model: openai:NAME"),
        ({"model": "policy", "base_url": URL}, "cell 'a': base_url is for model: openai:NAME, not 'policy'"),
        ({"model": "policy", "api_key_env": "KEY"}, "api_key_env is for model: openai:NAME"),
        ({"model": "openai:big", "base_url": "localhost:8000"}, "is no address such as"),
        ({"model": "openai:big", "base_url": "http://:80/v1"}, "is no address such as"),
        ({"model": "openai:big", "base_url": "http://a:port/v1"}, "is no address such as"),
        ({"model": "openai:big", "base_url": "http://a:0/v1"}, "is no address such as"),
        ({"model": "openai:big", "base_url": " http://a/v1"}, "is no address such as"),
        ({"model": "openai:big", "base_url": "http://a\t/v1"}, "is no address such as"),
        ({"model": "openai:big", "base_url": "http://a\x01/v1"}, "is no address such as"),
        ({"model": "openai:big", "base_url": "http://a/\ud800"}, "is no address such as"),
        ({"model": "openai:big", "base_url": "http://me:secret@a/v1"}, "without user, password, query or #"),
        ({"model": "openai:big", "base_url": "http://a/v1?key=1"}, "without user, password, query or #"),
    ],
)
def test_half_an_endpoint_is_refused(options, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        endpoint_of(CellSection(name="a", **options))


def test_a_key_in_the_place_of_its_variables_name_is_not_repeated():
    with pytest.raises(ConfigError, match="api_key_env is no name of an environment variable") as told:
        endpoint_of(CellSection(name="a", model="openai:big", base_url=URL, api_key_env="sk-proj-0123456789"))
    assert "0123456789" not in str(told.value)
    with pytest.raises(ConfigError, match="the environment variable that api_key_env names is not set") as told:
        Endpoint(URL, "big", "hf_abc0123456789").key()
    assert "0123456789" not in str(told.value)


def test_one_endpoint_has_one_key():
    specs = [CellSection(name=n, model="openai:big", base_url=URL, api_key_env=n) for n in ("a", "b")]
    with pytest.raises(ConfigError, match="has another api_key_env in another cell"):
        endpoints(specs)


def test_which_addresses_are_this_machine():
    """No proxy of the environment stands before these."""
    here = ("localhost:8000", "127.0.0.1", "127.1.2.3:1", "[::1]:8000", "0.0.0.0:8000", "[::]")
    assert all(is_here(f"http://{host}/v1") for host in here)
    assert not any(
        is_here(f"http://{host}/v1") for host in ("10.0.0.1", "localhost.example.org", "127.0.0.1.example.org")
    )
