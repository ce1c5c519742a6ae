"""What workflow code may not do: the rules of ``cadenza check``, and the functions and modules they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cadenza.durable.lint.values import PATH

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; a message reads ``<what> in <where> <why>: <instead>``.

    Attributes:
        id: for messages and for ``# cadenza: ignore[…]``.
        title: what it is about, in a few words.
        why: completes a sentence about the code that was found.
        instead: what to do, where the code found does not say it better.
    """

    id: str
    title: str
    why: str
    instead: str
    severity: Severity = "error"


SYNTAX = Rule("CDZ000", "source that cannot be read", "", "correct it and check again")
CLOCK = Rule("CDZ001", "clocks", "reads a clock, which replay cannot repeat", "use ctx.now()")
RANDOM = Rule("CDZ002", "randomness", "draws at random, which replay cannot repeat", "use ctx.random")
IO = Rule("CDZ003", "real I/O", "does real I/O", "do it in a step and await ctx.step(...)")
SLEEP = Rule("CDZ004", "blocking sleep", "blocks the loop", "use await asyncio.sleep(seconds), which is durable")
THREADS = Rule(
    "CDZ005",
    "threads, processes and connections",
    "leaves the deterministic loop",
    "do it in a step and await ctx.step(...)",
)
WAIT_FOR = Rule(
    "CDZ006",
    "asyncio.wait_for",
    "makes different tasks in different Python versions",
    "use 'async with asyncio.timeout(seconds):'",
)
AS_COMPLETED = Rule(
    "CDZ007",
    "asyncio.as_completed on coroutines",
    "starts coroutines in the order of a set, which differs between processes",
    "give it tasks made with asyncio.create_task",
)
ENVIRONMENT = Rule(
    "CDZ008",
    "the environment",
    "depends on the process and the machine it happens to run in",
    "pass the value in the workflow's input, or read it in a step",
)
SET_ORDER = Rule(
    "CDZ009", "the order of a set", "takes the order of a set, which differs between processes", "use sorted(...)"
)
IDENTITY = Rule(
    "CDZ010",
    "id() and hash()",
    "differs between processes",
    "use a field that identifies the value; for a digest hashlib, for a new id ctx.uuid()",
)
GLOBALS = Rule(
    "CDZ011",
    "module state",
    "changes what all runs in this process share and replay does not rebuild",
    "keep it in a local variable, and pass and return it as a value",
)
OWN_LOOP = Rule(
    "CDZ012", "another event loop", "runs an event loop inside of the deterministic one", "await the coroutine"
)
SWALLOW = Rule(
    "CDZ013",
    "swallowed cancellation",
    "swallows cancellation and the engine's own signals",
    "catch Exception, or end the handler with 'raise'",
)
DIRECT_CALL = Rule("CDZ014", "a step called directly", "is called directly, so that nothing is journaled", "")
ENDLESS = Rule(
    "CDZ015",
    "a loop that never yields",
    "has no await and no way out, so that the run never comes to rest",
    "await something in it, such as asyncio.sleep or ctx.receive, or end it with break or return",
)
PRINT = Rule(
    "CDZ016", "print", "is repeated by every replay", "print in a step, or only 'if not ctx.replaying'", "warning"
)

RULES = {
    rule.id: rule
    for rule in (
        SYNTAX, CLOCK, RANDOM, IO, SLEEP, THREADS, WAIT_FOR, AS_COMPLETED, ENVIRONMENT, SET_ORDER, IDENTITY, GLOBALS,
        OWN_LOOP, SWALLOW, DIRECT_CALL, ENDLESS, PRINT,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A function that breaks a rule when workflow code calls it.

    Attributes:
        instead: what to use for it, if the rule's own advice is not precise.
        free_with: with this many arguments it is harmless (``Random(seed)``); 0 for never.
    """

    rule: Rule
    instead: str = ""
    free_with: int = 0


def target_of(origin: str) -> Target | None:
    """What calling ``origin`` (a dotted name, see names.py) breaks; None for what is allowed or unknown."""
    if found := CALLS.get(origin):
        return found
    name = origin
    while "." in name:
        name = name.rpartition(".")[0]
        if rule := MODULES.get(name):
            return None if _is_harmless(origin, name) else Target(rule)
    return None


def _is_harmless(origin: str, module: str) -> bool:
    """Plain values of an I/O library: its errors, time limits and addresses."""
    parts = origin.removeprefix(f"{module}.").replace("()", "").split(".")
    return origin in HARMLESS or any(part in PLAIN or part.endswith(PLAIN_ENDINGS) for part in parts)


def _each(prefix: str, names: str, target: Target) -> dict[str, Target]:
    return {f"{prefix}.{name}": target for name in names.split()}


def _words(text: str) -> list[str]:
    return text.split()


CALLS: dict[str, Target] = {
    **_each("time", "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns", Target(CLOCK)),
    **_each("time", "process_time process_time_ns thread_time thread_time_ns clock_gettime", Target(CLOCK)),
    **_each("time", "localtime gmtime ctime asctime", Target(CLOCK, free_with=1)),
    "time.strftime": Target(CLOCK, free_with=2),
    **_each("datetime.datetime", "now utcnow today", Target(CLOCK)),
    "datetime.date.today": Target(CLOCK, "use ctx.now().date()"),
    "django.utils.timezone.now": Target(CLOCK),
    **_each("pendulum", "now today tomorrow yesterday", Target(CLOCK)),
    **_each("arrow", "now utcnow", Target(CLOCK)),
    **_each("uuid", "uuid1 uuid4 uuid6 uuid7", Target(RANDOM, "use ctx.uuid()")),
    **_each("os", "urandom getrandom", Target(RANDOM, "use ctx.random.randbytes(n)")),
    "random.Random": Target(RANDOM, "use ctx.random, or give Random a seed", free_with=1),
    **_each("numpy.random", "default_rng RandomState SeedSequence PCG64", Target(RANDOM, free_with=1)),
    "numpy.random.Generator": Target(RANDOM, free_with=1),
    "time.sleep": Target(SLEEP),
    "builtins.input": Target(IO, "ask with await ctx.ask(HumanTask(...))"),
    **_each("builtins", "open breakpoint", Target(IO)),
    **_each("io", "open open_code FileIO", Target(IO)),
    **_each("gzip", "open GzipFile", Target(IO)),
    **_each("bz2", "open BZ2File", Target(IO)),
    **_each("lzma", "open LZMAFile", Target(IO)),
    **_each("zipfile", "ZipFile Path", Target(IO)),
    **_each("tarfile", "open TarFile", Target(IO)),
    **_each("pandas", "read_csv read_json read_excel read_parquet read_sql read_html", Target(IO)),
    **_each("numpy", "load loadtxt save savetxt savez fromfile", Target(IO)),
    **_each("os", "open read write close fdopen pipe listdir scandir walk fwalk stat lstat access getcwd", Target(IO)),
    **_each("os", "mkdir makedirs remove unlink rename renames replace rmdir removedirs link symlink", Target(IO)),
    **_each("os", "readlink truncate utime chmod chown chdir putenv unsetenv statvfs mkfifo sync fsync", Target(IO)),
    **_each("os", "system popen execv execve execvp execl execlp execle spawnv spawnl spawnvp kill", Target(IO)),
    **_each("os.path", "exists lexists isfile isdir islink ismount getsize getmtime getatime getctime", Target(IO)),
    **_each("os.path", "realpath samefile", Target(IO)),
    **_each(PATH, "open read_text read_bytes write_text write_bytes exists is_file is_dir is_symlink", Target(IO)),
    **_each(PATH, "is_mount stat lstat owner group iterdir glob rglob walk mkdir rmdir unlink touch", Target(IO)),
    **_each(PATH, "rename replace chmod symlink_to hardlink_to readlink resolve samefile", Target(IO)),
    **_each("sys.stdin", "read readline readlines", Target(IO)),
    "webbrowser.open": Target(IO),
    "getpass.getpass": Target(IO, "ask with await ctx.ask(HumanTask(...))"),
    **_each("pydantic_ai.Agent()", "run run_sync run_stream run_stream_sync iter", Target(IO)),
    "cadenza.Engine.open": Target(IO, "start a child run with ctx.start(...)"),
    "asyncio.to_thread": Target(THREADS),
    **_each("asyncio", "create_subprocess_exec create_subprocess_shell run_coroutine_threadsafe", Target(THREADS)),
    **_each("asyncio", "open_connection start_server open_unix_connection start_unix_server", Target(THREADS)),
    **_each("os", "fork forkpty posix_spawn posix_spawnp", Target(THREADS)),
    "signal.signal": Target(THREADS),
    "asyncio.wait_for": Target(WAIT_FOR),
    "asyncio.all_tasks": Target(SET_ORDER, "keep the tasks in a list of your own"),
    **_each("os", "getenv getenvb getpid getppid getlogin getuid cpu_count uname", Target(ENVIRONMENT)),
    **_each("os.path", "expanduser expandvars", Target(ENVIRONMENT)),
    **_each(PATH, "expanduser absolute", Target(ENVIRONMENT)),
    **_each("pathlib.Path", "cwd home", Target(ENVIRONMENT)),
    "getpass.getuser": Target(ENVIRONMENT),
    **_each("socket", "gethostname getfqdn", Target(ENVIRONMENT)),
    "uuid.getnode": Target(ENVIRONMENT),
    "multiprocessing.cpu_count": Target(ENVIRONMENT),
    **_each("builtins", "id hash", Target(IDENTITY)),
    **_each("asyncio", "run Runner new_event_loop set_event_loop", Target(OWN_LOOP)),
    "cadenza.run": Target(OWN_LOOP, "start a child run with await ctx.run(workflow, input)"),
    "builtins.print": Target(PRINT),
    **_each("sys", "stdout.write stderr.write", Target(PRINT)),
}

# Everything that is called in these modules breaks the rule, the plain values below excepted.
MODULES: dict[str, Rule] = {
    **dict.fromkeys(_words("random secrets numpy.random"), RANDOM),
    **dict.fromkeys(
        _words(
            "socket ssl select selectors subprocess sqlite3 shutil tempfile glob fileinput linecache shelve dbm mmap "
            "urllib.request http.client http.server ftplib smtplib imaplib poplib telnetlib xmlrpc.client "
            "importlib.metadata importlib.resources requests httpx aiohttp urllib3 websockets websocket paramiko grpc "
            "aiofiles aiosqlite apsw asyncpg psycopg psycopg2 pymysql pymongo motor redis boto3 botocore aioboto3 "
            "openai anthropic"
        ),
        IO,
    ),
    **dict.fromkeys(
        _words(
            "threading _thread multiprocessing concurrent.futures anyio.to_thread anyio.to_process anyio.from_thread"
        ),
        THREADS,
    ),
    "platform": ENVIRONMENT,
}
HARMLESS = {"secrets.compare_digest", "glob.escape", "glob.has_magic", "socket.inet_aton", "socket.inet_ntoa"}
PLAIN = {"URL", "QueryParams", "Limits", "Retry", "BasicAuth", "types", "codes", "status_codes", "Row", "Binary"}
PLAIN_ENDINGS = ("Error", "Exception", "Warning", "Timeout", "TimeoutExpired", "Headers", "Request", "Response")

# Methods that say what they do, whatever they are called on.
METHODS: dict[str, Target] = {
    **{name: Target(IO) for name in _words("read_text read_bytes write_text write_bytes iterdir rglob")},
    "run_in_executor": Target(THREADS),
    "run_until_complete": Target(OWN_LOOP),
}
# What the deterministic loop offers; it refuses the rest.
LOOP_METHODS = {
    "call_soon", "call_later", "call_at", "create_future", "create_task", "time", "get_debug", "is_running",
    "is_closed", "call_exception_handler",
}  # fmt: skip
LOOPS = ("asyncio.get_running_loop()", "asyncio.get_event_loop()", "asyncio.new_event_loop()")

# Read, not called.
VALUES: dict[str, Target] = {
    **_each("os", "environ environb", Target(ENVIRONMENT)),
    "sys.argv": Target(ENVIRONMENT),
}

# Functions whose result has the order of the set they are given, or does not depend on it.
ORDERED_BY_INPUT = {
    *(f"builtins.{name}" for name in _words("list tuple enumerate iter zip map filter str repr")),
    *(f"collections.{name}" for name in _words("deque OrderedDict Counter")),
    "functools.reduce",
}
ORDER_FREE = {f"builtins.{name}" for name in _words("sorted set frozenset sum min max any all len bool")}
ORDERED_METHODS = {"join", "extend", "fromkeys"}
PATTERNS = {f"cadenza.{name}" for name in _words("sequential concurrent map_reduce")}

CONTAINERS = {
    *(f"builtins.{name}()" for name in _words("list dict set bytearray")),
    *(f"collections.{name}()" for name in _words("defaultdict deque Counter OrderedDict")),
}
COUNTERS = {"itertools.count()", "itertools.cycle()", "builtins.iter()"}
MUTATORS = set(
    _words(
        "append extend insert remove pop clear sort reverse add discard update setdefault popitem appendleft popleft "
        "extendleft rotate subtract intersection_update difference_update symmetric_difference_update"
    )
)
