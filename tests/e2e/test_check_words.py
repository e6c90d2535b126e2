"""What heavy-check says: its help, its refusals, its lines for people and programs, and how it is stopped and resumed."""

from __future__ import annotations

import subprocess
import os
import pty
import signal

import pytest
from commands import Command, ended, environment, program, until, watched

from heavysync.options import CheckOptions

HOSTILE = "evil\u2028= forged\x1b[2J"  # a line end of Unicode (Google has no names with others), and "clear the screen"
OPTIONS = (
    "--samples --by --seed --from-state --prove --confidence --prefix --since --min-size --max-size --include --exclude"
    " --no-read-source --strict --history --rotate --half-life --restart --dry-run --combined --state --db --concurrency"
    " --memory --source-endpoint-url --destination-endpoint-url --source-profile --destination-profile --source-region"
    " --destination-region --source-anonymous --destination-anonymous --request-payer --project --stall-timeout --quiet"
    " --verbose --json"
).split()

USAGE = {
    "unknown scheme": (["ftp://a", "gs://b"], r"'ftp://a'.*s3://bucket"),
    "equal": (["s3://aaa/p", "s3://aaa/p/"], r"both source and destination"),
    "no number of samples": (["--samples", "some"], r"--samples 'some': give a number"),
    "negative samples": (["--samples", "-5"], r"--samples '-5': give a number"),
    "too many samples": (["--samples", "101%"], r"--samples '101%': give a number"),
    "nothing to check": (["--samples", "0"], r"--samples 0 checks nothing"),
    "proof and samples": (["--samples", "5", "--prove", "1%"], r"--samples 5 --prove 1%: .*leave one"),
    "proof as a share": (["--prove", "0.001"], r"--prove '0.001': give a percentage"),
    "proof of everything": (["--prove", "100%"], r"--prove '100%': give a percentage"),
    "confidence as a number": (["--confidence", "95"], r"--confidence '95': give a percentage"),
    "full confidence": (["--confidence", "100%"], r"--confidence '100%': give a percentage"),
    "no date": (["--since", "yesterday"], r"--since 'yesterday': give a date"),
    "day that is not": (["--since", "2026-02-30"], r"--since '2026-02-30': give a date"),
    "moving population": (["--since", "7d", "--history"], r"--since 7d with --history.*give a date"),
    "no size": (["--min-size", "big"], r"--min-size 'big': give bytes"),
    "sizes crossed": (["--min-size", "2k", "--max-size", "1k"], r"--max-size 1024 is less than --min-size 2048"),
    "share by bytes": (["--samples", "1%", "--by", "bytes"], r"--samples 1% --by bytes"),
    "by what": (["--by", "keys"], r"keys"),
    "no half-life": (["--half-life", "0"], r"--half-life 0: give days"),
    "half-life that is no number": (["--half-life", "nan"], r"--half-life nan: give days"),
    "negative concurrency": (["--concurrency", "-1"], r"--concurrency -1: .*at least 1"),
    "too little memory": (["--memory", "1MiB"], r"--memory 1048576: .*at least"),
    "no such folder": (["--combined", "missing/file"], r"--combined 'missing/file' cannot be written"),
    "too large": (["--min-size", "9" * 400], r"--min-size '9+'"),
    "no Unicode": (["--seed", b"\xff".decode("utf-8", "surrogateescape")], "not valid Unicode"),
    "a folder": (["--combined", "."], r"--combined '\.' cannot be written"),
    "unknown option": (["--turbo"], r"--turbo"),
}


@pytest.fixture
def damaged_pair(new_bucket, sync_of):
    """Ten objects that were synchronised: two copies are corrupt, one is missing, one source object has changed."""
    source, destination = new_bucket("gs"), new_bucket("gs")
    for number in range(8):
        source.put(f"key-{number}", b"%d" % number, content_type="text/plain")
    source.put(HOSTILE, b"h", content_type="text/plain")
    source.put("dir/gone", b"g", content_type="text/plain")
    assert sync_of(source, destination)().code == 0
    destination.put("key-1", b"X", content_type="text/plain")
    destination.put(HOSTILE, b"H", content_type="text/plain")
    destination.delete("dir/gone")
    source.put("key-2", b"newer", content_type="text/plain")
    return source, destination


@pytest.fixture
def good_pair(new_bucket, sync_of):
    """Forty objects that were synchronised."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(40):
        source.put(f"key-{number:02d}", b"%d" % number, content_type="text/plain")
    assert sync_of(source, destination)().code == 0
    return source, destination


def test_help_names_all_options_and_exit_codes(tmp_path):
    """--help is documentation; each option can be set in the environment."""
    told = Command(environment(tmp_path), name="heavy-check")("--help", COLUMNS="100").out

    assert [word for word in OPTIONS if word not in told] == []
    assert "HEAVYSYNC_HALF_LIFE" in told
    assert "130/143" in told
    assert "5 something is" in " ".join(told.split())


@pytest.mark.parametrize("name", USAGE)
def test_senseless_words_are_refused(name, tmp_path, moto):
    """Exit code 2, one message that quotes the word, and no state is made."""
    words, pattern = USAGE[name]
    ends = () if "://" in words[0] else ("s3://aaa", "gs://bbb")

    Command(environment(tmp_path, moto.environment), ends, "heavy-check")(*words).refused(2, pattern)

    assert not (tmp_path / "state").exists()


def test_missing_bucket_is_named(new_bucket, check_of):
    """Exit code 3 and a message with the bucket's name."""
    destination = new_bucket("gs", create=False)

    check_of(new_bucket("s3"), destination)().refused(3, rf"destination bucket of .*{destination.name}.* does not exist")


def test_bad_objects_are_told_in_words(damaged_pair, check_of):
    """Each bad object has its line, what was checked is counted, and the exit code is 5."""
    told = check_of(*damaged_pair)("--samples", "100%")

    assert told.code == 5, told
    assert "corrupt: key-1: " in told.out
    assert "missing: dir/gone: " in told.out
    assert "checked      10 of 10 drawn objects: 6 ok, 1 stale, 1 missing, 2 corrupt; " in told.out
    assert "All 10 objects were checked: 3 are bad." in told.out
    assert "plan         read 10 objects" in told.err
    assert "check 1 in " in told.out


def test_keys_cannot_forge_lines(damaged_pair, check_of, tmp_path):
    """A key with a line end and an escape sequence stays within its line, on the terminal and in the file."""
    told = check_of(*damaged_pair)("--samples", "100%", "--combined", "all.txt")
    lines = (tmp_path / "all.txt").read_text().splitlines()

    assert "\x1b" not in told.said
    assert not any(line.startswith("= forged") for line in told.said.splitlines())
    assert sorted(lines) == sorted(
        [r"* evil\u2028= forged\x1b[2J", "* key-1", "* key-2", "+ dir/gone", "= key-0", *[f"= key-{n}" for n in range(3, 8)]]
    )


def test_json_lines_tell_plan_findings_and_summary(damaged_pair, check_of):
    """With --json stdout holds JSON lines only: the plan, one line for each object, the summary."""
    told = check_of(*damaged_pair)("--samples", "100%", "--json", "--history", "--seed", "s")

    findings = {line["key"]: line for line in told.lines if line["event"] == "finding"}
    plan = next(line for line in told.lines if line["event"] == "plan")
    summary = told.summary
    assert (plan["objects"], plan["sample"], plan["proves"]) == (10, 10, 0)
    assert len(findings) == 10
    assert (findings[HOSTILE]["verdict"], findings[HOSTILE]["symbol"]) == ("corrupt", "*")
    assert findings["dir/gone"]["reason"]
    assert (summary["status"], summary["exit_code"], summary["seed"]) == ("bad", 5, "s")
    assert summary["verdicts"] == {"ok": 6, "stale": 1, "vanished": 0, "unverifiable": 0, "missing": 1, "corrupt": 2}
    assert (summary["everything_checked"], summary["objects"], summary["checked"]) == (True, 10, 10)
    assert {finding["key"] for finding in summary["findings"]} == {HOSTILE, "dir/gone", "key-1", "key-2"}
    assert summary["curve"][0]["share"] == summary["bound"]["share"]


def test_quiet_says_only_what_is_bad(damaged_pair, check_of):
    """-q says nothing when all that was drawn is well, and names what is bad, once."""
    well = check_of(*damaged_pair)("-q", "--samples", "10", "--prefix", "key-3")
    ill = check_of(*damaged_pair)("-q", "--samples", "100%")

    assert (well.code, well.said) == (0, ""), well
    assert ill.code == 5
    assert ill.out.count("corrupt: key-1") == 1
    assert "stale: key-2" not in ill.out


def test_sample_says_a_bound_and_not_more(good_pair, check_of):
    """Of 20 good ones in 40 it says what is proved of the 40, and how many more it would take."""
    told = check_of(*good_pair)("--samples", "20", "--seed", "x")

    assert told.code == 0, told
    assert "checked      20 of 20 drawn objects: 20 ok; " in told.out
    assert "With 95 % confidence, at most 10 % of the objects are bad (4 of 40; at most " in told.out
    assert "0 bad in 25 draws would prove 5 %: --prove 5%" in told.out
    assert "(seed x; check 1 in " in told.out


def test_strict_alarms_for_stale_copies(new_bucket, sync_of, check_of):
    """A source that changed since it was copied is no alarm, but with --strict."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"one", content_type="text/plain")
    assert sync_of(source, destination)().code == 0
    source.put("key", b"other", content_type="text/plain")
    check = check_of(source, destination)

    lenient, strict = check(), check("--strict")

    assert (lenient.code, strict.code) == (0, 5), (lenient, strict)
    assert "The only object was checked: none is bad." in lenient.out
    assert "The only object was checked: 1 is bad or stale." in strict.out


def test_dry_run_tells_the_plan_and_reads_nothing(good_pair, check_of, tmp_path):
    """It draws and says what it would read; the file of an earlier check stays."""
    source, destination = good_pair
    (tmp_path / "all.txt").write_text("= earlier\n")
    source.forget()
    destination.forget()

    told = check_of(source, destination)("-n", "--prove", "20%", "--combined", "all.txt")

    assert told.code == 0, told
    assert "population   40 objects, 70 B: all of them" in told.out
    assert "proves       if nothing bad is found: with 95 % confidence, at most 20 % of the objects are bad" in told.out
    assert "nothing was read" in told.out
    assert {"bucket", "list"} >= set(source.counts() + destination.counts())
    assert (tmp_path / "all.txt").read_text() == "= earlier\n"


def test_filters_that_match_nothing_are_told(good_pair, check_of):
    """An empty population is no error, and nothing is said of it."""
    told = check_of(*good_pair)("--include", "*.jpg", "--since", "2020-01-01", "--samples", "5")

    assert told.code == 0, told
    assert "population   0 of 40 listed objects: modified since 2020-01-01T00:00:00Z, matching '*.jpg'" in told.out
    assert "confidence" not in told.out


def test_history_draws_a_curve(good_pair, check_of):
    """From the second check on, what all of them prove is told and drawn."""
    check = check_of(*good_pair)
    assert check("--samples", "10", "--rotate").code == 0

    told = check("--samples", "10", "--rotate")

    assert told.code == 0, told
    assert "of the 30 objects never checked before are bad" in told.out
    assert "By all checks so far, with 95 % confidence, at most " in told.out
    assert "┤" in told.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_stops_and_tells_how_to_go_on(number, code, good_pair, check_of, tmp_path):
    """The exit code names the signal, the last line resumes, the file is complete, and no object is checked twice."""
    source, destination = good_pair
    destination.forget()
    destination.rule(operation="media", action="pass", delay_s=0.2, count=None)
    check = check_of(source, destination)
    words = ("--samples", "100%", "--concurrency", "2", "--since", "9w")
    with watched(check.start(*words, "--combined", "all.txt")) as process:
        assert until(lambda: (tmp_path / "all.txt").exists() and (tmp_path / "all.txt").stat().st_size > 40, process)
        process.send_signal(number)
        stopped = ended(process)
    destination.forget()
    first = (tmp_path / "all.txt").read_text().splitlines()

    assert code == stopped.code, stopped
    last = stopped.err.strip().splitlines()[-1]
    assert f"stopped: {40 - len(first)} objects are left; to go on, run it again: heavy-check" in last
    assert "Traceback" not in stopped.said
    since = last.split()[-1]

    done = check(*words, "--since", since, "--combined", "all.txt", "--json")
    second = (tmp_path / "all.txt").read_text().splitlines()

    assert (done.code, done.summary["resumed"], done.summary["checked"]) == (0, True, 40), done
    assert first == second[: len(first)]
    assert len(set(second)) == len(second) == 40


def test_signal_after_an_alarm_is_an_alarm(good_pair, check_of):
    """Stopped at once after something bad was found, the exit code says so."""
    source, destination = good_pair
    for key in destination.keys():
        destination.put(key, b"rotten", content_type="text/plain")
    destination.forget()
    check = check_of(source, destination)
    with watched(check.start("--samples", "100%", "--concurrency", "1")) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        stopped = ended(process)

    assert first.startswith("corrupt: "), (first, stopped)
    assert stopped.code == 5, stopped


def test_findings_stand_above_a_live_display(damaged_pair, check_of):
    """On a terminal, too, each bad object has a line of its own, and no key moves the cursor."""
    check = check_of(*damaged_pair)
    leader, follower = pty.openpty()
    command = [*program("heavy-check"), *check.words, "--samples", "100%"]
    child = os.posix_spawnp(
        command[0],
        command,
        {**check.env, "TERM": "xterm", "COLUMNS": "200"},
        file_actions=[(os.POSIX_SPAWN_DUP2, follower, 1), (os.POSIX_SPAWN_DUP2, follower, 2)],
    )
    os.close(follower)
    shown = b""
    try:
        while block := os.read(leader, 1 << 16):
            shown += block
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(leader)
        _, status = os.waitpid(child, 0)

    text = shown.decode()
    assert os.waitstatus_to_exitcode(status) == 5, text
    assert "corrupt: key-1: " in text
    assert "\x1b[2J" not in text
    assert r"evil\u2028= forged\x1b[2J" in text


def test_options_come_from_the_environment(good_pair, check_of, tmp_path):
    """HEAVYSYNC_<OPTION> is honoured."""
    check = check_of(*good_pair)

    done = check(
        HEAVYSYNC_SAMPLES="7",
        HEAVYSYNC_JSON="1",
        HEAVYSYNC_CONFIDENCE="99%",
        HEAVYSYNC_PREFIX="key-0",
        HEAVYSYNC_EXCLUDE="*-09",
        HEAVYSYNC_READ_SOURCE="false",
    )

    assert done.code == 0, done
    assert (done.summary["sample"], done.summary["confidence"], done.summary["objects"]) == (7, 0.99, 9)


def test_defaults_of_the_command_are_those_of_the_library(tmp_path):
    """What --help states is what `CheckOptions` does."""
    told = " ".join(Command(environment(tmp_path), name="heavy-check")("--help", COLUMNS="100").out.split())
    options = CheckOptions()

    assert f"HEAVYSYNC_CONCURRENCY; default: {options.concurrency}]" in told
    assert f"HEAVYSYNC_HALF_LIFE; default: {options.half_life}]" in told
    assert f"default {options.samples}." in told
    assert f"HEAVYSYNC_CONFIDENCE; default: {options.confidence:.0%}]" in told


def test_closed_streams_are_no_defect(damaged_pair, check_of):
    """Daemons start programs so; the exit code still says what is so, and no file is written into by mistake."""
    check = check_of(*damaged_pair)
    command = [*program("heavy-check"), *check.words, "--samples", "100%"]

    assert [5, 5] == [
        subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command], env=check.env, cwd=check.env["HOME"], check=False
        ).returncode
        for closed in (">&-", "2>&- <&-")
    ]
