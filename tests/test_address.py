"""What an address says, and which of its options may not stand in it."""

from __future__ import annotations

import pytest

from backup_ops.address import is_secret, parse_address, program_in, secret_in


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
        ":webdav,bearer_token=abc:", ':webdav,headers="Authorization,Bearer abc":', 'nas,headers="Cookie,sid=abc":x',
        ":s3,sse_customer_key_base64=abcd:b", ":b2,sse-customer-key-base64=aa:x", ':http,url="https://TOKEN@host":',
        ':sftp,ssh="sshpass -p abc ssh me@nas":/x', ':webdav,bearer_token_command="echo abc",url=https://x:',
        ':alias,remote=":webdav,override.headers=abc:":x',
    ],
)  # fmt: skip
def test_secret_is_seen(url: str) -> None:
    assert secret_in(url) is not None


@pytest.mark.parametrize(
    "url",
    [
        "nas:vault", "nas:pass=abc", ":sftp,host=nas,key_file=/home/me/.ssh/id:/v", ":s3,provider=AWS,env_auth=true:b",
        ":sftp,ask_password=false,key_use_agent=true:", ":onedrive,token_url=x:", ":s3,access_key_id=me:b",
        "/mnt/pass=x", ":sftp,host=nas,md5sum_command=none,server_command=/usr/lib/sftp-server:/v",
        ':webdav,url="https://nas/me@home/":', ":sftp,host=nas,user=me,ssh_certs=x:/v", "/mnt/x,ssh=y",
    ],
)  # fmt: skip
def test_what_everybody_may_read_may_stand_there(url: str) -> None:
    assert secret_in(url) is None


@pytest.mark.parametrize(
    "name", ["RCLONE_CONFIG_DAV_HEADERS", "RCLONE_CONFIG_NAS_SSH", "RCLONE_B2_SSE_CUSTOMER_KEY_BASE64"]
)
def test_a_variable_that_holds_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name)
    assert not is_secret("RCLONE_CONFIG_NAS_MD5SUM_COMMAND")


@pytest.mark.parametrize(
    ("url", "option"),
    [
        (':sftp,ssh="/bin/sh -c id":/x', "ssh"),
        ("nas,md5sum-command=/tmp/x:/v", "md5sum-command"),
        (":webdav,bearer_token_command=x:", "bearer_token_command"),
        (':alias,remote=":sftp,server_command=/tmp/x:":y', "server_command"),
        (':crypt,remote=":local,global.metadata_mapper=/tmp/x:":y', "global.metadata_mapper"),
        (":sftp,host=nas,ssh_certs=x:/v", None),
        ("nas:a,ssh=b", None),
        ("/mnt/x,ssh=b", None),
    ],
)
def test_program_is_seen(url: str, option: str | None) -> None:
    assert program_in(url) == option
