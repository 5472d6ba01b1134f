"""What an address says, and which of its options may not stand in it."""

from __future__ import annotations

import pytest

from backup_ops.address import parse_address, secret_in


@pytest.mark.parametrize(
    ("url", "start", "name", "path"),
    [
        ("nas:", "nas:", "nas", ""),
        ("nas:/vault/a:b", "nas:", "nas", "/vault/a:b"),
        ("my nas+2:vault", "my nas+2:", "my nas+2", "vault"),
        ("nas,shell_type=none:vault", "nas,shell_type=none:", "nas", "vault"),
        (':webdav,url="https://x/y:1":v', ':webdav,url="https://x/y:1":', "webdav", "v"),
        (":sftp,host=nas,user=me:/v", ":sftp,host=nas,user=me:", "sftp", "/v"),
    ],
)
def test_parts(url: str, start: str, name: str, path: str) -> None:
    address = parse_address(url)
    assert address is not None
    assert (address.start, address.name, address.path) == (start, name, path)


@pytest.mark.parametrize("url", ["vault", "::x", ":x", "-nas:x", ""])
def test_what_is_no_remote(url: str) -> None:
    assert parse_address(url) is None


@pytest.mark.parametrize(
    "url",
    [
        ":webdav,url=x,pass=abc:", ":s3,secret_access_key=abc:b", "nas,pass='a b':x", ":sftp,key_pem=abc:",
        ":azureblob,account=me,key=abc:c", ":crypt,remote=nas:x,password=abc:", ":drive,token=abc:", ":b2,key=abc:",
        ":crypt,remote=':sftp,pass=abc:':x", "rest:https://me:abc@nas/", ":dropbox,client_secret=abc:",
        ":azureblob,sas_url=abc:", ":swift,key=abc:", ":storj,access_grant=abc:", ":storj,passphrase=abc:",
        ":protondrive,otp_secret_key=abc:", ":seafile,library_key=abc:", ":sftp,key-pem=abc:",
        ":webdav,bearer_token=abc:",
    ],
)  # fmt: skip
def test_secret_is_seen(url: str) -> None:
    assert secret_in(url) is not None


@pytest.mark.parametrize(
    "url",
    [
        "nas:vault", "nas:pass=abc", ":sftp,host=nas,key_file=/home/me/.ssh/id:/v", ":s3,provider=AWS,env_auth=true:b",
        ":sftp,ask_password=false,key_use_agent=true:", ":onedrive,token_url=x:", ":s3,access_key_id=me:b",
        "/mnt/pass=x",
    ],
)  # fmt: skip
def test_what_everybody_may_read_may_stand_there(url: str) -> None:
    assert secret_in(url) is None
