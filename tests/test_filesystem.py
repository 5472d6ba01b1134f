import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backup_ops.filesystem import Mount, mount_of, network_mount_of, read_mounts
from tests.network_mount import dead_mount, rclone_mount

# Lines as real systems have them; devices that no machine has, so that the place decides.
_LINES = r"""
1 0 999:1 / / rw,relatime - ext4 /dev/nvme0n1p2 rw
2 1 999:2 / /home rw,relatime shared:30 - btrfs /dev/sda3 rw,space_cache=v2,subvolid=257,subvol=/home
3 1 999:3 / /mnt/nas rw,relatime shared:99 - nfs4 nas:/export/vol1 rw,vers=4.2,hard,proto=tcp,addr=192.168.1.5
4 1 999:4 / /mnt/old rw,relatime - nfs 10.0.0.7:/srv rw,vers=3,nolock
5 1 999:5 / /mnt/win\040share rw,relatime - cifs //server/data\040of\040all rw,vers=3.1.1
6 1 999:6 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\134;uid=1000,trans=fd,rfd=5,wfd=5
7 1 999:7 / /run/user/1000/gvfs rw,nosuid,nodev - fuse.gvfsd-fuse gvfsd-fuse rw,user_id=1000
8 1 999:8 / /home/ada/remote rw,nosuid,nodev - fuse.sshfs ada@host:/data rw,user_id=1000,group_id=1000
9 1 999:9 / /home/ada/cloud rw,nosuid,nodev - fuse.rclone drive:backups rw,user_id=1000
10 1 999:10 / /mnt/dav rw,nosuid,nodev - fuse https://dav.example.org/files rw,user_id=0,allow_other
11 1 999:11 / /mnt/pool rw,relatime - fuse.mergerfs a:b rw,user_id=0,allow_other
12 1 999:12 / /mnt/usb rw,nosuid - fuseblk /dev/sdb1 rw,user_id=0,allow_other,blksize=4096
13 1 999:13 / /var/lib/docker/overlay2/abc/merged rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
14 1 999:14 / /mnt/ceph rw,relatime - ceph 10.1.0.1:6789,10.1.0.2:6789:/volumes/k8s rw,name=k8s,secret=<hidden>,acl
15 1 999:15 / /mnt/gluster rw,relatime - fuse.glusterfs server1:/gv0 rw,user_id=0,max_read=131072
16 1 999:16 / /lustre rw,flock - lustre 10.2.0.1@o2ib:/scratch rw,flock,lazystatfs
17 1 999:17 / /mnt/bucket rw,nosuid,nodev - fuse.s3fs s3fs rw,user_id=0,allow_other
18 1 999:18 / /mnt/auto rw,relatime - autofs systemd-1 rw,fd=52,pgrp=1,timeout=0,minproto=5,direct
19 18 999:19 / /mnt/auto rw,relatime - nfs4 nas:/auto rw,vers=4.2
20 1 999:20 / /tank rw,xattr,noacl - zfs tank rw
21 1 999:21 / /afs rw,relatime - afs #root.afs. rw
22 1 999:22 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw
23 1 999:23 / /mnt/lima rw,relatime - virtiofs mount0 rw
24 3 999:2 /ada /mnt/nas/local rw,relatime - btrfs /dev/sda3 rw,subvol=/home
25 1 999:25 / /vagrant rw,nodev - vboxsf vagrant rw,iocharset=utf8,uid=1000
27 1 999:27 / /sandbox rw - 9p none rw,trans=fd,rfdno=4,wfdno=4,aname=/,dfltuid=4294967294
28 1 999:28 / /mnt/qemu rw,relatime - 9p host rw,sync,dirsync,access=client,trans=tcp,port=564
a line that no kernel writes
26 1 no:device / /x rw - ext4 /dev/sda rw
"""
MOUNTS = read_mounts(_LINES)

REFUSED = {
    "/mnt/nas/home": "nfs4", "/mnt/old": "nfs", "/mnt/win share/x": "cifs", "/mnt/c/Users/ada": "9p",
    "/run/user/1000/gvfs/smb-share": "fuse.gvfsd-fuse", "/home/ada/remote/home": "fuse.sshfs",
    "/home/ada/cloud": "fuse.rclone", "/mnt/dav/h": "fuse", "/mnt/ceph": "ceph", "/mnt/gluster/a": "fuse.glusterfs",
    "/lustre/ada": "lustre", "/mnt/bucket": "fuse.s3fs", "/mnt/auto/home": "nfs4", "/afs/cell": "afs",
    "/vagrant": "vboxsf", "/mnt/qemu": "9p",
}  # fmt: skip
ALLOWED = {
    "/": "ext4", "/mnt/nasty": "ext4", "/home/ada/remotely": "btrfs", "/mnt/pool/h": "fuse.mergerfs",
    "/mnt/usb": "fuseblk", "/var/lib/docker/overlay2/abc/merged/home": "overlay", "/tank/home": "zfs",
    "/dev/shm/h": "tmpfs", "/mnt/lima/h": "virtiofs", "/mnt/nas/local/h": "btrfs",
}  # fmt: skip


@pytest.mark.parametrize(("path", "kind"), [*REFUSED.items(), *ALLOWED.items()], ids=[*REFUSED, *ALLOWED])
def test_the_mount_of_a_path_and_whether_it_is_a_networks(path, kind):
    mount = mount_of(path, MOUNTS)
    assert mount is not None
    assert (mount.type, mount.is_network) == (kind, path in REFUSED)


def test_lines_that_say_nothing_are_left_out():
    assert len(MOUNTS) == 27
    assert MOUNTS[4] == Mount((999, 5), "/mnt/win share", "cifs", "//server/data of all", "rw,vers=3.1.1")
    assert MOUNTS[5].source == "C:\\"
    assert mount_of("/", []) is None


def test_the_device_decides_before_the_place(tmp_path):
    device = os.stat(tmp_path).st_dev
    here = (os.major(device), os.minor(device))
    right, wrong = Mount(here, "/elsewhere", "ext4", "/dev/x"), Mount((999, 1), str(tmp_path), "nfs4", "nas:/")
    assert mount_of(tmp_path / "not" / "there", [wrong, right]) == right
    assert mount_of(tmp_path, [wrong]) == wrong
    (tmp_path / "link").symlink_to("/proc")
    assert mount_of(tmp_path / "link" / "x", [wrong, Mount((999, 2), "/", "ext4", "/dev/x")]).point == "/"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mounted where")
def test_it_is_what_the_system_says(tmp_path):
    said = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", tmp_path], capture_output=True, text=True)
    mount = mount_of(tmp_path)
    assert mount is not None and mount.type == said.stdout.strip()
    assert mount_of("/proc/self").type == "proc"


def test_a_real_network_mount_is_known_by_device_and_through_a_link(tmp_path):
    with rclone_mount(tmp_path) as (point, behind):
        (behind / "below").mkdir()
        link = tmp_path / "link"
        link.symlink_to(point / "below")
        for path in (point, point / "below", point / "not" / "there", link, link / "home"):
            mount = network_mount_of(path)
            assert mount is not None and (mount.type, mount.point) == ("fuse.rclone", str(point))
        assert network_mount_of(behind) is None


@pytest.mark.parametrize("place", ["/dev/shm", None], ids=["memory", "disk"])
def test_looking_costs_less_than_a_millisecond_beside_a_dead_mount(tmp_path, place):
    point = tmp_path / "dead"
    point.mkdir()
    path = Path(place) if place and os.path.isdir(place) else tmp_path
    with dead_mount(point):
        took_s = []
        for _ in range(200):
            began = time.perf_counter()
            assert network_mount_of(path / "home") is None
            took_s.append(time.perf_counter() - began)
    print(f"median {statistics.median(took_s) * 1e6:.0f} µs")
    assert statistics.median(took_s) < 0.001
