"""The determinism lint: every rule finds its mistakes, and ordinary workflow code is left alone.

Snippets are the body of a workflow ``flow(ctx, order)``; what stands above a line ``---`` is the module around it.
"""

import ast
import re
import textwrap
from pathlib import Path

import pytest

from cadenza.durable.lint import RULES, Finding, check_source

DOCS = Path(__file__).parents[2] / "docs" / "determinism.md"
HEADER = "import asyncio\nfrom cadenza import Context, agent, map_reduce, step, workflow\n"

# --- each rule: what it finds, and what looks like it --------------------------------------------------------------

MISTAKES = {
    "CDZ001": [
        "import time\n---\nstarted = time.time()",
        "import time as t\n---\nstarted = t.monotonic()",
        "from time import perf_counter as tick\n---\nstarted = tick()",
        "from time import *\n---\nstarted = monotonic()",
        "import datetime\n---\nwhen = datetime.datetime.now(datetime.UTC)",
        "from datetime import datetime as dt\n---\nwhen = dt.utcnow().date()",
        "from datetime import date\n---\nwhen = f'{date.today():%Y}'",
        "import time\n---\nyear = time.strftime('%Y')",
        "import time\n---\nnow = time.localtime()",
        "from datetime import datetime\nnow = datetime.now\n---\nwhen = now()",
        "from datetime import datetime\n---\nclock = datetime.now\nwhen = clock()",
        "import time\n---\nstamps = list(map(time.ctime, order.times)) + [time.time_ns()]",
        "from datetime import datetime\nSTARTED = datetime.now().isoformat()\n---\nawait ctx.step('log', STARTED)",
        "import time\n---\nasync def inner(at=time.time()):\n    return at",
    ],
    "CDZ002": [
        "import random\n---\npick = random.choice(order.items)",
        "from random import shuffle as mix\n---\nmix(order.items)",
        "import random\n---\nrng = random.Random()\nrng.random()",
        "import random\n---\nrng = random.Random(None)",
        "import random\nRNG = random.Random(7)\n---\nx = RNG.random()",
        "import secrets\n---\ntoken = secrets.token_hex(8)",
        "from os import urandom\n---\nsalt = urandom(8)",
        "import uuid\n---\nid = str(uuid.uuid4())",
        "from uuid import uuid1\n---\nkeys = [uuid1() for _ in order.items]",
        "import numpy as np\n---\nnoise = np.random.rand(3)",
        "from numpy.random import default_rng\n---\nrng = default_rng()",
        "import random\n---\nitems = sorted(order.items, key=lambda item: random.random())",
        "from uuid import uuid4\n---\nids = defaultdict(uuid4)",
    ],
    "CDZ003": [
        "---\nwith open(order.path) as file:\n    pass",
        "import io\n---\nfile = io.open(order.path)",
        "---\nname = input('name? ')",
        "from pathlib import Path\n---\ntext = Path(order.path).read_text()",
        "from pathlib import Path\nHERE = Path(__file__).parent\n---\nfound = (HERE / 'policy.yaml').exists()",
        "from pathlib import Path\n---\nfolder = Path('a') / order.name\nfolder.with_suffix('.b').mkdir()",
        "from pathlib import Path as P\ndef size(path: P | None) -> int:\n    return path.stat().st_size\n---\nsize(order.path)",
        "---\ntext = order.path.read_text()",
        "import requests\n---\npage = requests.get(order.url).json()",
        "import httpx\n---\nasync with httpx.AsyncClient() as client:\n    await client.get(order.url)",
        "import httpx\nclient = httpx.AsyncClient()\n---\nawait client.get(order.url)",
        "import httpx\nasync def load(client: httpx.AsyncClient):\n    await client.get('/')\n---\nawait load(order.client)",
        "from urllib.request import urlopen\n---\npage = urlopen(order.url)",
        "import aiohttp\n---\nsession = aiohttp.ClientSession()",
        "import socket\n---\ns = socket.create_connection(order.address)",
        "import subprocess as sp\n---\nsp.run(['ls'])",
        "import sqlite3\n---\ndb = sqlite3.connect('x.db')\ndb.execute('select 1')",
        "import os\n---\nos.system('ls')",
        "import os.path\n---\nsize = os.path.getsize(order.path)",
        "from os import path as p\n---\nseen = p.exists(order.path)",
        "import shutil\n---\nshutil.rmtree(order.path)",
        "import pydantic_ai\nllm = pydantic_ai.Agent('openai:gpt')\n---\nanswer = await llm.run(order.text)",
        "import openai\nmodel = openai.AsyncOpenAI()\n---\nanswer = await model.chat.completions.create(model='x')",
        "from importlib.metadata import version\n---\nfound = version('cadenza')",
        "import cadenza\n---\nasync with cadenza.Engine.open('x.db') as engine:\n    pass",
    ],
    "CDZ004": ["import time\n---\ntime.sleep(1)", "from time import sleep as nap\n---\nnap(order.pause_s)"],
    "CDZ005": [
        "import threading\n---\nthreading.Thread(target=order.work).start()",
        "from threading import Lock\n---\nlock = Lock()",
        "from concurrent.futures import ThreadPoolExecutor\n---\npool = ThreadPoolExecutor()",
        "import multiprocessing as mp\n---\npool = mp.Pool(2)",
        "import time\n---\nawait asyncio.to_thread(time.sleep, 1)",
        "---\nloop = asyncio.get_running_loop()\nawait loop.run_in_executor(None, order.work)",
        "---\nawait order.loop.run_in_executor(None, order.work)",
        "---\nawait asyncio.get_running_loop().create_connection(order.protocol, 'host', 1)",
        "---\nprocess = await asyncio.create_subprocess_exec('ls')",
        "---\nreader, writer = await asyncio.open_connection('host', 80)",
        "import os\n---\nchild = os.fork()",
    ],
    "CDZ006": [
        "---\nawait asyncio.wait_for(ctx.receive('paid'), 60)",
        "from asyncio import wait_for as limit\n---\nawait limit(ctx.receive('paid'), 60)",
    ],
    "CDZ007": [
        "async def review(ctx, item): ...\n---\nfor each in asyncio.as_completed([review(ctx, i) for i in order]):\n    await each",
        "async def review(ctx, item): ...\n---\nfor each in asyncio.as_completed(review(ctx, i) for i in order):\n    await each",
        "from asyncio import as_completed\n---\nfor each in as_completed([asyncio.sleep(1), asyncio.sleep(2)]):\n    await each",
        "async def review(item): ...\n---\nwork = [review(1), review(2)]\nfor each in asyncio.as_completed(work):\n    await each",
        "from reviews import review\n---\nfor each in asyncio.as_completed([review(ctx, i) for i in order]):\n    await each",
        "---\nfor each in asyncio.as_completed([child.result() for child in order.children]):\n    await each",
    ],
    "CDZ008": [
        "import os\n---\nkey = os.environ['KEY']",
        "from os import environ\n---\nkey = environ.get('KEY', '')",
        "import os\n---\nkey = os.getenv('KEY')",
        "import sys\n---\nname = sys.argv[1]",
        "import os\n---\nn = os.cpu_count()",
        "import platform\n---\nhost = platform.node()",
        "from pathlib import Path\n---\nhome = Path.home() / 'x'",
        "import os\nMODEL = os.environ.get('MODEL') or 'small'\n---\nawait ctx.call(MODEL, order)\nawait ctx.call(MODEL, order)",
        "import os\nLIMIT = int(os.environ['LIMIT'])\n---\nawait ctx.call('a', LIMIT)",
    ],
    "CDZ009": [
        "---\nfor name in {'a', 'b'}:\n    await ctx.call(name, order)",
        "---\nfor name in set(order.names):\n    await ctx.call(name, order)",
        "---\nnames = {each.name for each in order}\nawait asyncio.gather(*names)",
        "---\nnames = set()\nnames.add(order.name)\nresult = [ctx.call(name, order) for name in names]",
        "---\nnames = set(order)\nrest = list(names)",
        "---\nnames = frozenset(order)\ntext = ', '.join(names)",
        "---\nfirst, *rest = {order.a, order.b}",
        "---\nfirst = next(iter(set(order.a)))",
        "---\ntodo = set(order.items)\nwhile todo:\n    await ctx.call('a', todo.pop())",
        "def only(names: set[str]):\n    return [n for n in names]\n---\nonly(order.names)",
        "def only(names: 'frozenset[str] | None'):\n    return tuple(names)\n---\nonly(order.names)",
        "---\nfor name in order.now.keys() - order.before.keys():\n    await ctx.call(name, order)",
        "---\nnew = set(order.a) - set(order.b)\nfor name in new | {'x'}:\n    await ctx.call(name, order)",
        "---\nby_name = {name: 1 for name in set(order)}",
        "---\nitems = []\nitems.extend({order.a, order.b})",
        "---\nitems = []\nitems += set(order)",
        "---\npairs = [(a, b) for a in order for b in set(a.parts)]",
        "NAMES = {'a', 'b'}\n---\nfor name in NAMES:\n    await ctx.call(name, order)",
        "---\nawait map_reduce(ctx, set(order), 'worker')",
        "---\nresults = {await ctx.call(name, order) for name in set(order)}",
        "@step\nasync def collect(order) -> set[str]: ...\n---\nfor name in await ctx.step(collect, order):\n    await ctx.call(name, order)",
        "---\ntitle = f'review of {set(order)}'",
        "---\nfor index, name in enumerate(set(order)):\n    await ctx.call(name, index)",
    ],
    "CDZ010": [
        "---\nseen = {id(order): order}",
        "---\nbucket = hash(order.name) % 8",
        "---\nitems = sorted(order.items, key=id)",
    ],
    "CDZ011": [
        "COUNT = 0\n---\nglobal COUNT\nCOUNT += 1",
        "---\nglobal last\nlast = order",
        "CACHE = {}\n---\nCACHE[order.id] = order",
        "CACHE: dict[str, int] = {}\n---\ndel CACHE[order.id]",
        "SEEN = []\n---\nSEEN.append(order)",
        "from collections import defaultdict\nBY = defaultdict(list)\n---\nBY[order.id].append(order)",
        "BY = {}\n---\nBY.setdefault(order.id, []).append(order)",
        "class State:\n    count = 0\n---\nState.count += 1",
        "import settings\n---\nsettings.DEBUG = True",
        "import itertools\nNUMBERS = itertools.count()\n---\nnumber = next(NUMBERS)",
        "SEEN = set()\n---\nasync def inner():\n    SEEN.add(order)",
    ],
    "CDZ012": [
        "---\nasyncio.run(order.work())",
        "---\nloop = asyncio.new_event_loop()",
        "---\nasyncio.get_event_loop().run_until_complete(order.work())",
        "---\norder.loop.run_until_complete(order.work())",
        "import cadenza\n---\ncadenza.run(flow, order)",
    ],
    "CDZ013": [
        "---\ntry:\n    await ctx.call('a', order)\nexcept:\n    pass",
        "---\ntry:\n    await ctx.call('a', order)\nexcept BaseException as error:\n    order.errors.append(error)",
        "---\ntry:\n    await ctx.call('a', order)\nexcept (KeyError, BaseException):\n    return None",
        "---\ntry:\n    await ctx.call('a', order)\nexcept BaseException as error:\n    raise ValueError from error",
        "---\ntry:\n    async with asyncio.timeout(5):\n        pass\nexcept BaseException:\n    pass",
        "---\ntry:\n    await ctx.call('a', order)\nfinally:\n    return 1",
        "import contextlib\n---\nwith contextlib.suppress(BaseException):\n    await ctx.call('a', order)",
        "---\ntry:\n    ctx.continue_as_new(order)\nexcept BaseException:\n    pass",
        "---\ntry:\n    async with asyncio.TaskGroup() as group:\n        pass\nexcept* BaseException:\n    pass",
    ],
    "CDZ014": [
        "@step\nasync def charge(order): ...\n---\nreceipt = await charge(order)",
        "@step(effect='read')\ndef load(order): ...\n---\nreceipt = load(order)",
        "@agent(description='x')\nasync def judge(order): ...\n---\nverdict = await judge(order)",
        "import cadenza as c\n@c.step\nasync def charge(order): ...\n---\nreceipt = await asyncio.create_task(charge(order))",
        "from shop import charge\n---\nawait ctx.step(charge, order)\nawait charge(order)",
        "import shop\n---\nawait ctx.step(shop.charge.options(timeout_s=5), order)\nawait shop.charge(order)",
        "def plain(order): ...\ncharge = step(effect='read')(plain)\n---\nawait charge(order)",
        "@step\nasync def charge(order): ...\n---\nawait asyncio.gather(*map(charge, order.items))",
        "@step\nasync def charge(order): ...\n---\nawait charge.options(timeout_s=5)(order)",
        "@step\nasync def charge(order): ...\nasync def all_of(items):\n    return [await charge(i) for i in items]\n---\nawait all_of(order)",
    ],
    "CDZ015": [
        "---\nwhile True:\n    order.poll()",
        "---\nwhile 1:\n    for item in order:\n        if item:\n            break",
        "---\ndone = False\nwhile not done:\n    pass",
    ],
    "CDZ016": [
        "---\nprint(order)",
        "import sys\n---\nsys.stdout.write('x')",
        "---\nif ctx.run_id:\n    print('started')",
    ],
}

SOUND = {
    "CDZ001": [
        "from datetime import datetime, timedelta\n---\nwhen = ctx.now() + timedelta(days=1)\nat = datetime(2030, 1, 1)",
        "from datetime import datetime, date\n---\nwhen = datetime.fromisoformat(order.at)\nday = date.fromordinal(7)",
        "import time\n---\nfor time in order.times:\n    await ctx.call('a', time.time())",
        "import time\ndef free(time):\n    return time.time()\n---\nfree(order)",
        "import time\n---\ntext = time.strftime('%Y', order.at)\nparts = time.gmtime(order.seconds)",
        "---\nnow = order.now()\nwhen = order.datetime.now()",
        "---\ndeadline = asyncio.get_running_loop().time() + 5",
        "import time\n@step\ndef stamp():\n    return time.time()\n---\nwhen = await ctx.step(stamp)",
        "import time\ndef unused():\n    return time.time()\n---\nreturn order",
        "from mylib import time\n---\nx = time.time()",
        "import time\n---\ndef take(clock: time.struct_time) -> time.struct_time:\n    return clock\nreturn take(order)",
    ],
    "CDZ002": [
        "---\npick = ctx.random.choice(order.items)\nkey = ctx.uuid()",
        "import random\n---\nrandom = ctx.random\nrandom.shuffle(order.items)",
        "import random\n---\nrng = random.Random(order.seed)\nx = rng.random()",
        "import random\ndef pick(rng: random.Random):\n    return rng.choice([1, 2])\n---\npick(ctx.random)",
        "import uuid\n---\na = uuid.UUID(order.id)\nb = uuid.uuid5(uuid.NAMESPACE_URL, order.url)",
        "import numpy as np\n---\nrng = np.random.default_rng(7)\nmean = np.mean(order.values)",
        "import secrets\n---\nsame = secrets.compare_digest(order.a, order.b)",
        "import random\n---\nok = isinstance(order.rng, random.Random)",
    ],
    "CDZ003": [
        "from pathlib import Path\n---\npath = Path(order.path) / 'x'\nname = path.with_suffix('.md').name\nreturn str(path.parent)",
        "import os\n---\npath = os.path.join('a', order.name)\nroot, ext = os.path.splitext(path)",
        "---\ntext = order.text.replace('a', 'b')\nday = ctx.now().replace(hour=0)",
        "---\naccount = order.open()\nanswer = order.input\nasync with order.exists() as x:\n    pass",
        "from urllib.parse import quote, urlparse\n---\nurl = quote(order.name)\nhost = urlparse(url).netloc",
        "import httpx\n---\ntry:\n    await ctx.step('load', httpx.URL('http://x'))\nexcept httpx.HTTPError:\n    raise",
        "import sqlite3\n---\ntry:\n    await ctx.call('a', order)\nexcept sqlite3.Error as error:\n    raise ValueError from error",
        "import requests\n---\nraise requests.HTTPError('no')",
        "class Page:\n    def read_text(self): return ''\n---\npage = Page()\nfor each in order:\n    each.read_text()",
        "def open(order): ...\n---\nopen(order)",
        "---\nasync def each(input):\n    return input\nawait each(order)",
        "@step\ndef load(path):\n    with open(path) as file:\n        return file.read()\n---\ntext = await ctx.step(load, order.path)",
        "import json, re\n---\ndata = json.loads(order.text)\nfound = re.match('a', json.dumps(data))",
        "def undo(path):\n    open(path)\n---\nctx.compensate(undo, order.path)",
    ],
    "CDZ004": ["---\nawait asyncio.sleep(60)", "---\norder.time.sleep(1)", "def sleep(x): ...\n---\nsleep(1)"],
    "CDZ005": [
        "---\nlock = asyncio.Lock()\nasync with lock:\n    pass",
        "---\nqueue = asyncio.Queue()\nawait queue.put(1)\nevent = asyncio.Event()\nevent.set()",
        "from cadenza import concurrent\n---\nawait concurrent(ctx, ['a', 'b'], order)",
        "---\nloop = asyncio.get_running_loop()\nfuture = loop.create_future()\nloop.call_later(5, future.cancel)",
    ],
    "CDZ006": [
        "---\nasync with asyncio.timeout(60):\n    await ctx.receive('paid')",
        "---\nawait order.wait_for(1)",
        "---\ndone, pending = await asyncio.wait([asyncio.create_task(order.a())], timeout=5)",
    ],
    "CDZ007": [
        "async def review(i): ...\n---\ntasks = [asyncio.create_task(review(i)) for i in order]\nfor each in asyncio.as_completed(tasks):\n    await each",
        "---\nfor each in asyncio.as_completed([ctx.call('a', i) for i in order]):\n    await each",
        "---\nfor each in asyncio.as_completed(order.tasks):\n    await each",
        "async def review(i): ...\n---\nresults = await asyncio.gather(*(review(i) for i in order))",
    ],
    "CDZ008": [
        "---\nkey = order.environ['KEY']\nname = order.getenv('x')",
        "import os\n@step\ndef key():\n    return os.environ['KEY']\n---\nkey = await ctx.step(key)",
        "import os\nLEVEL = os.environ.get('LEVEL')\n---\nLEVEL = order.level\nreturn LEVEL",
        "import sys\n---\nrecent = sys.version_info >= (3, 12)\nbig = sys.maxsize",
    ],
    "CDZ009": [
        "---\nfor name in sorted({'a', 'b'}):\n    await ctx.call(name, order)",
        "---\nseen = set()\nfor item in order:\n    if item.id in seen:\n        continue\n    seen.add(item.id)\nreturn len(seen)",
        "---\nnames = {i.name for i in order}\nnames = sorted(names)\nfor name in names:\n    await ctx.call(name, order)",
        "---\nnames = {i.name for i in order}\nreturn sorted(n.lower() for n in names), ', '.join(sorted(names))",
        "---\na, b = set(order.a), set(order.b)\nif a & b or a <= b:\n    return max(a), sum(b), any(x in b for x in a)",
        "---\nlonger = {n + 'x' for n in set(order)}\nunion = longer.union(x for x in {1, 2})\nreturn sorted(union)",
        "---\nfor key, value in {'a': 1, 'b': 2}.items():\n    await ctx.call(key, value)",
        "---\ntasks = {asyncio.create_task(ctx.call('a', i)) for i in order}\nwhile tasks:\n"
        "    done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)\n    for task in done:\n        task.result()",
        "---\nrunning = set()\nfor i in order:\n    task = asyncio.create_task(ctx.call('a', i))\n    running.add(task)\n"
        "    task.add_done_callback(running.discard)\nfor task in running:\n    task.cancel()",
        "---\nrunning: set[asyncio.Task[int]] = set()\nawait asyncio.gather(*running)",
        "---\nnames = set(order)\nnames = list(order)\nfor name in names:\n    await ctx.call(name, order)",
        "ALLOWED = {'a', 'b'}\n---\nreturn [name for name in order if name in ALLOWED]",
        "---\n[only] = set(order.names)\nreturn only",
        "---\nreturn len(list(set(order))), sorted(list(set(order)), key=str), f'{len(set(order))}'",
        "---\nnames = set(order)\nasync def inner(names):\n    return [n for n in names]\nawait inner(sorted(names))",
        "from mylib import set\n---\nfor x in set(order):\n    await ctx.call('a', x)",
        "---\nawait map_reduce(ctx, sorted(set(order)), 'worker')\nawait ctx.step('a', set(order))",
    ],
    "CDZ010": [
        "---\nid = order.id\nhash = order.hash\nreturn order.id(), id",
        "import hashlib\n---\nreturn hashlib.sha256(order.raw).hexdigest()",
        "class Key:\n    def __hash__(self):\n        return hash(self.name)\n---\nreturn {Key(): 1}",
    ],
    "CDZ011": [
        "CACHE = {}\n---\nCACHE = {}\nCACHE[order.id] = order\nreturn CACHE",
        "SEEN = []\n---\nif order in SEEN:\n    return len(SEEN)",
        "SEEN = []\n---\nSEEN = list(order)\nSEEN.append(1)",
        "---\nseen = []\ndef note(x):\n    seen.append(x)\nnote(order)",
        "---\ncount = 0\ndef up():\n    nonlocal count\n    count += 1\nup()",
        "---\norder.items['a'] = 1\norder.items.append(2)\ndel order.items['a']",
        "class Basket:\n    def __init__(self):\n        self.items = []\n    def put(self, x):\n        self.items.append(x)\n---\nBasket().put(order)",
        "import logging\nlog = logging.getLogger(__name__)\n---\nlog.info('x')\nlog.append = None if False else log.append\n".replace(
            "log.append = None if False else log.append\n", ""
        ),
        "COUNT = 3\n---\nglobal COUNT\nreturn COUNT",
    ],
    "CDZ012": ["---\nawait ctx.run(flow, order)\ntask = asyncio.create_task(order.work())", "---\norder.run(1)"],
    "CDZ013": [
        "---\ntry:\n    await ctx.call('a', order)\nexcept Exception:\n    return None",
        "---\ntry:\n    await ctx.call('a', order)\nexcept BaseException:\n    await ctx.call('undo', order)\n    raise",
        "---\ntry:\n    await ctx.call('a', order)\nexcept BaseException as error:\n    order.note(error)\n    raise error",
        "---\ntry:\n    return int(order.text)\nexcept:\n    return 0",
        "---\ntry:\n    await ctx.call('a', order)\nfinally:\n    order.close()",
        "import contextlib\n---\nwith contextlib.suppress(TimeoutError):\n    await ctx.call('a', order)",
        "---\ntask = asyncio.create_task(order.work())\ntask.cancel()\ntry:\n    await task\nexcept asyncio.CancelledError:\n    pass",
        "---\ntry:\n    async def inner():\n        await ctx.call('a', order)\nexcept BaseException:\n    pass",
    ],
    "CDZ014": [
        "@step\nasync def charge(order): ...\n---\nreceipt = await ctx.step(charge.options(timeout_s=5), order)",
        "@agent\nasync def judge(order): ...\n---\nverdict = await ctx.call(judge, order)",
        "from shop import charge, total\n---\nawait ctx.step(charge, order)\nreturn total(order)",
        "@step\nasync def charge(order): ...\n---\nasync with asyncio.TaskGroup() as group:\n    group.create_task(order.charge())",
        "@step\nasync def charge(order): ...\n@step\nasync def twice(order):\n    await charge(order)\n---\nawait ctx.step(twice, order)",
        "from otherlib import step\n@step\ndef charge(order): ...\n---\ncharge(order)",
        "@step\nasync def charge(order): ...\n---\ncharge = order.charge\nawait charge(order)",
    ],
    "CDZ015": [
        "---\nwhile True:\n    await asyncio.sleep(60)",
        "---\nwhile True:\n    async for each in order:\n        pass",
        "---\nstack = [order]\nwhile True:\n    if not stack:\n        break\n    stack.pop()",
        "---\nwhile True:\n    for x in order:\n        pass\n    else:\n        break",
        "---\nn = 3\nwhile n:\n    n -= 1",
        "---\ntry:\n    while True:\n        order.popitem()\nexcept KeyError:\n    pass",
    ],
    "CDZ016": [
        "---\nif not ctx.replaying:\n    print('started')",
        "@step\ndef tell(text):\n    print(text)\n---\nawait ctx.step(tell, 'x')",
        "---\norder.print()",
    ],
}


def module(snippet: str) -> str:
    around, _, body = snippet.rpartition("---\n")
    return f"{HEADER}{around}\n@workflow\nasync def flow(ctx: Context, order):\n{textwrap.indent(body, '    ')}\n"


def rules_of(source: str) -> list[str]:
    return [finding.rule for finding in check_source(source, "shop.py")]


@pytest.mark.parametrize(("rule", "snippet"), [(rule, s) for rule, snippets in MISTAKES.items() for s in snippets])
def test_a_mistake_is_found_once_and_by_its_rule(rule: str, snippet: str) -> None:
    assert rules_of(module(snippet)) == [rule]


@pytest.mark.parametrize("snippet", [s for snippets in SOUND.values() for s in snippets])
def test_what_only_looks_like_a_mistake_is_left_alone(snippet: str) -> None:
    assert check_source(module(snippet), "shop.py") == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "CDZ000"])
def test_every_rule_is_shown_by_two_mistakes_and_two_sound_pieces_of_code(rule: str) -> None:
    assert len(MISTAKES[rule]) >= 2
    assert len(SOUND[rule]) >= 2


# --- which code is read -------------------------------------------------------------------------------------------

CLOCK = "import time\n"


@pytest.mark.parametrize(
    "decorated",
    [
        "from cadenza import workflow\n@workflow\n",
        "from cadenza import workflow as w\n@w\n",
        "import cadenza\n@cadenza.workflow\n",
        "import cadenza as cz\n@cz.workflow(name='x', concurrency=2)\n",
        "from cadenza import workflow\n@workflow()\n",
        "from cadenza import *\n@workflow\n",
        "from cadenza.durable.define import workflow\n@workflow\n",
        "import cadenza\nimport functools\n@functools.cache\n@cadenza.workflow\n",
    ],
)
def test_a_workflow_is_known_by_its_decorator_however_it_was_imported(decorated: str) -> None:
    assert rules_of(f"{CLOCK}{decorated}async def flow(ctx):\n    return time.time()") == ["CDZ001"]


@pytest.mark.parametrize(
    "source",
    [
        "async def flow(ctx):\n    return time.time()",
        "from prefect import workflow\n@workflow\nasync def flow(ctx):\n    return time.time()",
        "from temporalio import workflow\n@workflow.defn\nclass Flow:\n    @workflow.run\n    async def run(self):\n        return time.time()",
        "def workflow(fn):\n    return fn\n@workflow\nasync def flow(ctx):\n    return time.time()",
        "from cadenza import workflow\nprint(time.time())\n@workflow\nasync def flow(ctx): ...\ntime.sleep(1)",
    ],
)
def test_code_outside_of_workflows_may_do_anything(source: str) -> None:
    assert rules_of(CLOCK + source) == []


@pytest.mark.parametrize(
    "snippet",
    [
        "def a():\n    return b()\ndef b():\n    return time.time()\n---\na()",
        "async def a(ctx):\n    return time.time()\n---\nasync with asyncio.TaskGroup() as group:\n    group.create_task(a(ctx))",
        "async def a(ctx, item):\n    return time.time()\n---\nawait map_reduce(ctx, order, a)",
        "stamp = lambda: time.time()\n---\nstamp()",
        "---\nasync def inner():\n    return [time.time() for _ in order]\nawait inner()",
        "---\nreturn sorted(order, key=lambda x: time.time())",
        "class A:\n    def when(self):\n        return time.time()\n---\nA().when()",
        "class A:\n    def when(self):\n        return self._when()\n    def _when(self):\n        return time.time()\n---\na = A()\na.when()",
        "class A:\n    def when(self):\n        return time.time()\nclass B(A): ...\n---\nB().when()",
        "class A:\n    @staticmethod\n    def when():\n        return time.time()\n---\nA.when()",
        "class A:\n    @classmethod\n    def make(cls):\n        return cls.when()\n    @classmethod\n    def when(cls):\n        return time.time()\n---\nA.make()",
        "class A:\n    @property\n    def when(self):\n        return time.time()\n---\na = A()\nreturn a.when",
        "class A:\n    def when(self):\n        return time.time()\ndef use(a: A):\n    a.when()\n---\nuse(order)",
        "class A:\n    def __init__(self):\n        self.at = time.time()\n---\nA()",
        "class A:\n    def __post_init__(self):\n        self.at = time.time()\n---\nreturn [A() for _ in order]",
        "class A:\n    at: float = field(default_factory=time.time)\n---\nA()",
        "class A:\n    at: float = Field(default_factory=lambda: time.time())\n---\nA()",
        "def again(n):\n    return again(n - 1) if n else time.time()\n---\nagain(3)",
        "def a(at=time.time()):\n    return at\n---\na()",
        "class A:\n    def when(self):\n        return time.time()\n@step\nasync def load() -> A: ...\n---\na = await ctx.step(load)\na.when()",
    ],
)
def test_what_a_workflow_uses_of_its_module_is_read_too(snippet: str) -> None:
    assert rules_of(module(CLOCK + snippet)) == ["CDZ001"]


@pytest.mark.parametrize(
    "snippet",
    [
        "@step\nasync def a():\n    return time.time()\n---\nawait ctx.step(a)",
        "@agent(description='x')\nasync def a(x):\n    return time.time()\n---\nawait ctx.call('a', order)",
        "---\n@step\nasync def a():\n    return time.time()\nawait ctx.step(a)",
        "def undo():\n    return time.time()\n---\nctx.compensate(undo)",
        "class A:\n    def when(self):\n        return time.time()\n---\nif isinstance(order, A):\n    raise ValueError",
        "def a():\n    return time.time()\n@step(effect='compensatable', undo=a)\nasync def b(): ...\n---\nawait ctx.step(b)",
    ],
)
def test_what_runs_in_a_step_is_not_read(snippet: str) -> None:
    assert rules_of(module(CLOCK + snippet)) == []


def test_a_workflow_made_by_a_call_is_read() -> None:
    source = "import time, cadenza\nasync def f(ctx):\n    time.sleep(1)\nflow = cadenza.workflow(name='f')(f)\n"
    assert rules_of(source.replace("(name='f')", "")) == ["CDZ004"]


def test_a_function_of_two_workflows_is_reported_once() -> None:
    source = f"{HEADER}import time\ndef now():\n    return time.time()\n" + "".join(
        f"@workflow\nasync def {name}(ctx):\n    now()\n" for name in ("first", "second")
    )
    assert [finding.message.split(" reads")[0] for finding in check_source(source, "shop.py")] == [
        "time.time() in now (used by workflow first)"
    ]


# --- what a finding says ------------------------------------------------------------------------------------------


def test_a_finding_says_where_what_in_which_workflow_why_and_what_to_use() -> None:
    source = "import time\nimport cadenza\n@cadenza.workflow\nasync def checkout(ctx):\n    x = time.time()\n"
    [finding] = check_source(source, "shop/orders.py")
    assert finding == Finding("shop/orders.py", 5, 9, "CDZ001", finding.message, "error")
    assert str(finding) == (
        "shop/orders.py:5:9: CDZ001 time.time() in workflow checkout reads a clock, which replay cannot repeat: "
        "use ctx.now()"
    )


def test_a_workflow_is_called_by_the_name_its_decorator_gives_it() -> None:
    source = "import time, cadenza\n@cadenza.workflow(name='shop-checkout')\nasync def f(ctx):\n    time.sleep(1)\n"
    assert "in workflow shop-checkout " in check_source(source, "a.py")[0].message


def test_columns_count_characters_and_findings_come_in_the_order_of_the_source() -> None:
    source = module("import time\n---\nx = '→→' + str(time.time()) + str(id(order))\ntime.sleep(1)")
    found = check_source(source, "a.py")
    assert [(each.column, each.rule) for each in found] == [(20, "CDZ001"), (38, "CDZ010"), (5, "CDZ004")]
    assert found[0].line + 1 == found[2].line


@pytest.mark.parametrize(
    ("snippet", "severity"),
    [
        ("---\nprint(1)", "warning"),
        ("---\norder.path.read_text()", "warning"),
        ("import os\nMODEL = os.environ['MODEL']\n---\nreturn MODEL", "warning"),
        ("import os\n---\nreturn os.environ['MODEL']", "error"),
        ("---\nhash(order)", "error"),
    ],
)
def test_what_is_unwelcome_or_uncertain_is_a_warning(snippet: str, severity: str) -> None:
    assert [finding.severity for finding in check_source(module(snippet), "a.py")] == [severity]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "CDZ000"])
def test_every_message_ends_with_what_to_do(rule: str) -> None:
    for snippet in MISTAKES[rule]:
        for finding in check_source(module(snippet), "a.py"):
            assert re.search(r"\w in (workflow flow|\w.* \(used by workflow flow\)) .+: .+\w", finding.message), finding


# --- ignoring -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(1)  # cadenza: ignore[CDZ004] a test of the watchdog",
        "time.sleep(id(order))  # cadenza: ignore[CDZ004, CDZ010] a test of the watchdog",
        "time.sleep(  # cadenza: ignore[CDZ004] a test\n    1,\n)",
        "time.sleep(\n    1,\n)  # cadenza: ignore[CDZ004] a test",
        "time.sleep(1)  #cadenza:ignore[CDZ004] a test",
        "try:\n    await ctx.call('a', 1)\nexcept BaseException:  # cadenza: ignore[CDZ013] a test\n    pass",
    ],
)
def test_a_line_is_let_through_with_a_reason(body: str) -> None:
    assert rules_of(module(f"import time\n---\n{body}")) == []


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(1)  # cadenza: ignore[CDZ001] another rule",
        "time.sleep(1)\n# cadenza: ignore[CDZ004] another line",
        "time.sleep(1), '# cadenza: ignore[CDZ004] in a string'",
        "time.sleep(1)  # cadenza: ignore everything",
    ],
)
def test_an_ignore_comment_covers_only_the_rule_and_the_line_it_names(body: str) -> None:
    assert rules_of(module(f"import time\n---\n{body}")) == ["CDZ004"]


def test_an_ignore_comment_without_a_reason_is_refused_and_says_so() -> None:
    [finding] = check_source(module("import time\n---\ntime.sleep(1)  # cadenza: ignore[CDZ004]"), "a.py")
    assert finding.message.endswith("(to ignore it, give the reason after ignore[CDZ004])")


# --- any source ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("x = 1\ndef f(:\n    pass\n", 2, 7),
        ("if True:\nx = 1\n", 2, 1),
        ("x = 'open\n", 1, 5),
        ("x = 1\0\n", 1, 1),
        ("def f():\n\treturn 1\n        return 2\n", 3, 17),
    ],
)
def test_source_that_is_not_python_is_a_finding(source: str, line: int, column: int) -> None:
    [finding] = check_source(source, "a.py")
    assert (finding.rule, finding.severity) == ("CDZ000", "error")
    assert finding.line == line
    assert finding.column == column or "\0" in source or "\t" in source  # Pythons differ on these
    assert "check again" in finding.message


@pytest.mark.parametrize("source", ["", "\n", "# nothing\n", "\ufeffimport time\n", "x = '\\d'\n"])
def test_source_without_workflows_has_no_findings(source: str) -> None:
    assert check_source(source, "a.py") == []


def test_line_endings_do_not_move_findings() -> None:
    source = module("import time\n---\ntime.sleep(1)")
    assert check_source(source, "a.py") == check_source(source.replace("\n", "\r\n"), "a.py")


def test_source_nested_too_deeply_is_a_finding() -> None:
    [finding] = check_source(module("---\nx = " + "-" * 3000 + "1"), "a.py")
    assert finding.rule == "CDZ000"


def test_names_that_refer_to_themselves_come_to_an_end() -> None:
    body = "a = b\nb = a\nfor x in a:\n    pass\nwhile order:\n    order = order.next()\ndef f(date: 'date.date'):\n    date.x()\nf(1)"
    assert rules_of(module(f"class A(A): ...\n---\n{body}\nA().x()")) == []


def test_a_long_chain_of_assignments_is_followed() -> None:
    lines = "\n".join(["names = set(order)"] + ["names = names.union(order)"] * 300)
    assert rules_of(module(f"---\n{lines}\nlist(names)")) == ["CDZ009"]


def test_the_lint_holds_for_code_of_every_kind() -> None:
    """Every function of some large modules, read as a workflow: nothing is raised, every place exists."""
    for library in (ast, textwrap, re, pytest):
        for file in sorted(Path(str(library.__file__)).parent.glob("*s*.py"))[:25]:
            source = re.sub(r"^( *)(?=(async )?def )", r"\1@workflow\n\1", file.read_text("utf-8"), flags=re.MULTILINE)
            lines = source.split("\n")
            for finding in check_source(source, file.name):
                assert 1 <= finding.line <= len(lines)
                assert 1 <= finding.column <= len(lines[finding.line - 1]) + 1


def test_ordinary_workflows_have_no_findings() -> None:
    assert check_source(ORDINARY, "orders.py") == []


ORDINARY = '''
from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

import cadenza
from cadenza import Answer, Context, HumanTask, Retry, StepError, agent, concurrent, map_reduce, sequential, step, workflow

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)
POLICY = Path(__file__).parent / "policy.yaml"
ALLOWED = {"MIT", "Apache-2.0"}
RANKS = {"low": 1, "high": 2}
KEY = os.environ.get("KEY", "")


class Declined(Exception):
    pass


@dataclass(frozen=True)
class Order:
    id: str
    lines: list[str] = field(default_factory=list)
    paid_at: datetime | None = None

    def total(self) -> int:
        return sum(len(line) for line in self.lines)


@dataclass
class Progress:
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        self.done.add(name)


@step(effect="irreversible", timeout_s=30, raises=(Declined,))
async def charge(order: Order) -> str:
    async with httpx.AsyncClient() as client:
        reply = await client.post("https://pay.example", json={"id": order.id, "key": step.key(), "at": time.time()})
    return reply.text


@step(effect="read")
def load(path: str) -> str:
    return Path(path).read_text() + KEY + str(random.random())


@step
async def refund(receipt: str) -> None:
    print("refund", receipt, uuid.uuid4())


@agent(description="classifies")
async def classifier(text: str) -> str:
    return os.environ.get("MODEL", "none")


def rank(item: tuple[str, int]) -> int:
    return -item[1]


async def review(ctx: Context, name: str) -> dict[str, Any]:
    verdict = await ctx.call("classifier", name)
    if verdict not in ALLOWED:
        answer: Answer = await ctx.ask(HumanTask(title=f"Ship {name}?", kind="approve", details={"name": name}))
        if not answer.approved:
            raise Declined(name)
    return {"name": name, "verdict": verdict, "rank": RANKS.get(verdict, 0)}


async def remind(ctx: Context, every: timedelta) -> None:
    while True:
        await asyncio.sleep(every.total_seconds())
        log.info("still waiting at %s", ctx.now())


@workflow(concurrency=3, concurrency_key=lambda order: order.id)
async def checkout(ctx: Context, order: Order) -> dict[str, Any]:
    started = ctx.now()
    progress = Progress()
    hash = ctx.random.getrandbits(32)
    id = str(ctx.uuid())
    text = await ctx.step(load, str(POLICY))
    rules = json.loads(text)
    try:
        receipt = await ctx.step(charge.options(timeout_s=5, retry=Retry(attempts=2)), order)
    except Declined as error:
        return {"declined": str(error)}
    except StepError:
        log.warning("could not charge")
        raise
    ctx.compensate(refund, receipt)

    async with asyncio.TaskGroup() as group:
        tasks = {line: group.create_task(review(ctx, line)) for line in order.lines}
    reviews = {line: task.result() for line, task in tasks.items()}

    background: set[asyncio.Task[None]] = set()
    reminder = asyncio.create_task(remind(ctx, timedelta(hours=1)))
    background.add(reminder)
    reminder.add_done_callback(background.discard)
    try:
        async with asyncio.timeout(86_400):
            paid = await ctx.receive("paid")
    except TimeoutError:
        paid = None
    finally:
        for task in background:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reminder

    first, second = await asyncio.gather(ctx.call("a", 1), ctx.call("b", 2), return_exceptions=True)
    pending = {asyncio.create_task(ctx.call("race", n)) for n in range(3)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            progress.mark(str(task.result()))

    seen: set[str] = set()
    unique = [line for line in order.lines if not (line in seen or seen.add(line))]
    counts = Counter(unique)
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for line in unique:
        by_size[len(line)].append(line)
    missing = ALLOWED - seen
    if missing:
        log.info("missing: %s", sorted(missing))
    limit = asyncio.Semaphore(10)

    async def one(name: str) -> Any:
        async with limit:
            return await ctx.call("classifier", name)

    verdicts = await asyncio.gather(*(one(name) for name in sorted(seen)))
    results = await map_reduce(ctx, unique, review, limit=10)
    summary = await sequential(ctx, ["draft", "polish"], results)
    both = await concurrent(ctx, ["a", "b"], summary)
    child = await ctx.run(cleanup, Order(id=id, lines=unique, paid_at=started + timedelta(days=1)))
    handle = ctx.start(cleanup, replace(order, id=f"{order.id}-{hash:x}"))
    if not ctx.replaying:
        print("nearly done")
    try:
        await ctx.shield(ctx.step(refund, receipt))
    except BaseException:
        progress.failed["refund"] = "stopped"
        raise
    when = datetime.fromtimestamp(0, UTC).isoformat() if order.paid_at is None else order.paid_at.isoformat()
    queue = [order.id]
    while queue:
        current = queue.pop()
        if len(current) > 3:
            queue.append(current[1:])
    match paid:
        case {"id": str(number), **rest}:
            log.debug("%s %s", number, rest)
        case _:
            pass
    ranked = sorted(counts.items(), key=rank)
    return {
        "reviews": reviews, "rules": rules, "both": both, "first": first, "second": second, "verdicts": verdicts,
        "child": child, "handle": await handle.result(), "ranked": ranked, "when": when, "total": order.total(),
        "done": sorted(progress.done),
    }


@cadenza.workflow
async def cleanup(ctx: cadenza.Context, order: Order) -> int:
    count = 0
    while True:
        message = await ctx.receive("item")
        count += 1
        if ctx.patched("bound") and count >= 1_000:
            ctx.continue_as_new(order)
        if message is None:
            return count


if __name__ == "__main__":
    print(cadenza.run(checkout, Order("1"), store=os.environ.get("STORE", "cadenza.db")), time.time())
'''


# --- the page for users -------------------------------------------------------------------------------------------

SECTION = re.compile(r"^## (CDZ\d+): .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGE = {match[1]: match[0] for match in SECTION.finditer(DOCS.read_text("utf-8"))}


def test_the_page_has_a_section_for_each_rule() -> None:
    assert list(PAGE) == list(RULES)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "CDZ000"])
def test_the_page_shows_bad_code_that_is_found_and_good_code_that_is_not(rule: str) -> None:
    bad, good = BLOCK.findall(PAGE[rule])
    assert set(rules_of(HEADER + bad)) == {rule}
    assert rules_of(HEADER + good) == []
