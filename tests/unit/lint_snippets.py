"""Workflow code that the lint must find, and code that it must leave alone.

Snippets stand a blank line apart. Each is the body of a workflow ``flow(ctx, order)``; what comes before a line ``---``
is the module around it.
"""

import textwrap

HEADER = "import asyncio\nfrom cadenza import Context, agent, map_reduce, step, workflow\n"


def module(snippet: str) -> str:
    """The source of a module with this snippet in it."""
    around, _, body = snippet.rpartition("---\n")
    return f"{HEADER}{around}\n@workflow\nasync def flow(ctx: Context, order):\n{textwrap.indent(body, '    ')}\n"


def snippets(block: str) -> list[str]:
    return block.strip("\n").split("\n\n")


MISTAKES: dict[str, str] = {
    "CDZ001": """
import time
---
started = time.time()

import time as t
---
started = t.monotonic()

from time import perf_counter as tick
---
started = tick()

from time import *
---
started = monotonic()

import datetime
---
when = datetime.datetime.now(datetime.UTC)

from datetime import datetime as dt
---
when = dt.utcnow().date()

from datetime import date
---
when = f'{date.today():%Y}'

import time
---
year = time.strftime('%Y')

import time
---
now = time.localtime()

from datetime import datetime
now = datetime.now
---
when = now()

from datetime import datetime
---
clock = datetime.now
when = clock()

import time
---
stamps = list(map(time.ctime, order.times)) + [time.time_ns()]

from datetime import datetime
STARTED = datetime.now().isoformat()
---
await ctx.step('log', STARTED)

import time
---
async def inner(at=time.time()):
    return at
""",
    "CDZ002": """
import random
---
pick = random.choice(order.items)

from random import shuffle as mix
---
mix(order.items)

import random
---
rng = random.Random()
rng.random()

import random
---
rng = random.Random(None)

import random
RNG = random.Random(7)
---
x = RNG.random()

import secrets
---
token = secrets.token_hex(8)

from os import urandom
---
salt = urandom(8)

import uuid
---
id = str(uuid.uuid4())

from uuid import uuid1
---
keys = [uuid1() for _ in order.items]

import numpy as np
---
noise = np.random.rand(3)

from numpy.random import default_rng
---
rng = default_rng()

import random
---
items = sorted(order.items, key=lambda item: random.random())

from uuid import uuid4
---
ids = defaultdict(uuid4)
""",
    "CDZ003": """
with open(order.path) as file:
    pass

import io
---
file = io.open(order.path)

name = input('name? ')

from pathlib import Path
---
text = Path(order.path).read_text()

from pathlib import Path
HERE = Path(__file__).parent
---
found = (HERE / 'policy.yaml').exists()

from pathlib import Path
---
folder = Path('a') / order.name
folder.with_suffix('.b').mkdir()

from pathlib import Path as P
def size(path: P | None) -> int:
    return path.stat().st_size
---
size(order.path)

text = order.path.read_text()

import requests
---
page = requests.get(order.url).json()

import httpx
---
async with httpx.AsyncClient() as client:
    await client.get(order.url)

import httpx
client = httpx.AsyncClient()
---
await client.get(order.url)

import httpx
async def load(client: httpx.AsyncClient):
    await client.get('/')
---
await load(order.client)

from urllib.request import urlopen
---
page = urlopen(order.url)

import aiohttp
---
session = aiohttp.ClientSession()

import socket
---
s = socket.create_connection(order.address)

import subprocess as sp
---
sp.run(['ls'])

import sqlite3
---
db = sqlite3.connect('x.db')
db.execute('select 1')

import os
---
os.system('ls')

import os.path
---
size = os.path.getsize(order.path)

from os import path as p
---
seen = p.exists(order.path)

import shutil
---
shutil.rmtree(order.path)

import pydantic_ai
llm = pydantic_ai.Agent('openai:gpt')
---
answer = await llm.run(order.text)

import openai
model = openai.AsyncOpenAI()
---
answer = await model.chat.completions.create(model='x')

from importlib.metadata import version
---
found = version('cadenza')

import cadenza
---
async with cadenza.Engine.open('x.db') as engine:
    pass
""",
    "CDZ004": """
import time
---
time.sleep(1)

from time import sleep as nap
---
nap(order.pause_s)
""",
    "CDZ005": """
import threading
---
threading.Thread(target=order.work).start()

from threading import Lock
---
lock = Lock()

from concurrent.futures import ThreadPoolExecutor
---
pool = ThreadPoolExecutor()

import multiprocessing as mp
---
pool = mp.Pool(2)

import time
---
await asyncio.to_thread(time.sleep, 1)

loop = asyncio.get_running_loop()
await loop.run_in_executor(None, order.work)

await order.loop.run_in_executor(None, order.work)

await asyncio.get_running_loop().create_connection(order.protocol, 'host', 1)

process = await asyncio.create_subprocess_exec('ls')

reader, writer = await asyncio.open_connection('host', 80)

import os
---
child = os.fork()
""",
    "CDZ006": """
await asyncio.wait_for(ctx.receive('paid'), 60)

from asyncio import wait_for as limit
---
await limit(ctx.receive('paid'), 60)
""",
    "CDZ007": """
async def review(ctx, item): ...
---
for each in asyncio.as_completed([review(ctx, i) for i in order]):
    await each

async def review(ctx, item): ...
---
for each in asyncio.as_completed(review(ctx, i) for i in order):
    await each

from asyncio import as_completed
---
for each in as_completed([asyncio.sleep(1), asyncio.sleep(2)]):
    await each

async def review(item): ...
---
work = [review(1), review(2)]
for each in asyncio.as_completed(work):
    await each

from reviews import review
---
for each in asyncio.as_completed([review(ctx, i) for i in order]):
    await each

for each in asyncio.as_completed([child.result() for child in order.children]):
    await each
""",
    "CDZ008": """
import os
---
key = os.environ['KEY']

from os import environ
---
key = environ.get('KEY', '')

import os
---
key = os.getenv('KEY')

import sys
---
name = sys.argv[1]

import os
---
n = os.cpu_count()

import platform
---
host = platform.node()

from pathlib import Path
---
home = Path.home() / 'x'

import os
MODEL = os.environ.get('MODEL') or 'small'
---
await ctx.call(MODEL, order)
await ctx.call(MODEL, order)

import os
LIMIT = int(os.environ['LIMIT'])
---
await ctx.call('a', LIMIT)
""",
    "CDZ009": """
for task in asyncio.all_tasks():
    task.cancel()

for name in {'a', 'b'}:
    await ctx.call(name, order)

for name in set(order.names):
    await ctx.call(name, order)

names = {each.name for each in order}
await asyncio.gather(*names)

names = set()
names.add(order.name)
result = [ctx.call(name, order) for name in names]

names = set(order)
rest = list(names)

names = frozenset(order)
text = ', '.join(names)

first, *rest = {order.a, order.b}

first = next(iter(set(order.a)))

todo = set(order.items)
while todo:
    await ctx.call('a', todo.pop())

def only(names: set[str]):
    return [n for n in names]
---
only(order.names)

def only(names: 'frozenset[str] | None'):
    return tuple(names)
---
only(order.names)

for name in order.now.keys() - order.before.keys():
    await ctx.call(name, order)

new = set(order.a) - set(order.b)
for name in new | {'x'}:
    await ctx.call(name, order)

by_name = {name: 1 for name in set(order)}

items = []
items.extend({order.a, order.b})

items = []
items += set(order)

pairs = [(a, b) for a in order for b in set(a.parts)]

NAMES = {'a', 'b'}
---
for name in NAMES:
    await ctx.call(name, order)

await map_reduce(ctx, set(order), 'worker')

results = {await ctx.call(name, order) for name in set(order)}

@step
async def collect(order) -> set[str]: ...
---
for name in await ctx.step(collect, order):
    await ctx.call(name, order)

title = f'review of {set(order)}'

for index, name in enumerate(set(order)):
    await ctx.call(name, index)
""",
    "CDZ010": """
seen = {id(order): order}

bucket = hash(order.name) % 8

items = sorted(order.items, key=id)
""",
    "CDZ011": """
COUNT = 0
---
global COUNT
COUNT += 1

global last
last = order

CACHE = {}
---
CACHE[order.id] = order

CACHE: dict[str, int] = {}
---
del CACHE[order.id]

SEEN = []
---
SEEN.append(order)

from collections import defaultdict
BY = defaultdict(list)
---
BY[order.id].append(order)

BY = {}
---
BY.setdefault(order.id, []).append(order)

class State:
    count = 0
---
State.count += 1

import settings
---
settings.DEBUG = True

import itertools
NUMBERS = itertools.count()
---
number = next(NUMBERS)

SEEN = set()
---
async def inner():
    SEEN.add(order)
""",
    "CDZ012": """
asyncio.run(order.work())

loop = asyncio.new_event_loop()

asyncio.get_event_loop().run_until_complete(order.work())

order.loop.run_until_complete(order.work())

import cadenza
---
cadenza.run(flow, order)
""",
    "CDZ013": """
try:
    await ctx.call('a', order)
except:
    pass

try:
    await ctx.call('a', order)
except BaseException as error:
    order.errors.append(error)

try:
    await ctx.call('a', order)
except (KeyError, BaseException):
    return None

try:
    await ctx.call('a', order)
except BaseException as error:
    raise ValueError from error

try:
    async with asyncio.timeout(5):
        pass
except BaseException:
    pass

try:
    await ctx.call('a', order)
finally:
    return 1

import contextlib
---
with contextlib.suppress(BaseException):
    await ctx.call('a', order)

try:
    ctx.continue_as_new(order)
except BaseException:
    pass

try:
    async with asyncio.TaskGroup() as group:
        pass
except* BaseException:
    pass
""",
    "CDZ014": """
@step
async def charge(order): ...
---
receipt = await charge(order)

@step(effect='read')
def load(order): ...
---
receipt = load(order)

@agent(description='x')
async def judge(order): ...
---
verdict = await judge(order)

import cadenza as c
@c.step
async def charge(order): ...
---
receipt = await asyncio.create_task(charge(order))

from shop import charge
---
await ctx.step(charge, order)
await charge(order)

import shop
---
await ctx.step(shop.charge.options(timeout_s=5), order)
await shop.charge(order)

def plain(order): ...
charge = step(effect='read')(plain)
---
await charge(order)

@step
async def charge(order): ...
---
await asyncio.gather(*map(charge, order.items))

@step
async def charge(order): ...
---
await charge.options(timeout_s=5)(order)

@step
async def charge(order): ...
async def all_of(items):
    return [await charge(i) for i in items]
---
await all_of(order)
""",
    "CDZ015": """
while True:
    order.poll()

while 1:
    for item in order:
        if item:
            break

done = False
while not done:
    pass
""",
    "CDZ016": """
print(order)

import sys
---
sys.stdout.write('x')

if ctx.run_id:
    print('started')
""",
}

SOUND: dict[str, str] = {
    "CDZ001": """
from datetime import datetime, timedelta
---
when = ctx.now() + timedelta(days=1)
at = datetime(2030, 1, 1)

from datetime import datetime, date
---
when = datetime.fromisoformat(order.at)
day = date.fromordinal(7)

import time
---
for time in order.times:
    await ctx.call('a', time.time())

import time
def free(time):
    return time.time()
---
free(order)

import time
---
text = time.strftime('%Y', order.at)
parts = time.gmtime(order.seconds)

now = order.now()
when = order.datetime.now()

deadline = asyncio.get_running_loop().time() + 5

import time
@step
def stamp():
    return time.time()
---
when = await ctx.step(stamp)

import time
def unused():
    return time.time()
---
return order

from mylib import time
---
x = time.time()

import time
---
def take(clock: time.struct_time) -> time.struct_time:
    return clock
return take(order)
""",
    "CDZ002": """
pick = ctx.random.choice(order.items)
key = ctx.uuid()

import random
---
random = ctx.random
random.shuffle(order.items)

import random
---
rng = random.Random(order.seed)
x = rng.random()

import random
def pick(rng: random.Random):
    return rng.choice([1, 2])
---
pick(ctx.random)

import uuid
---
a = uuid.UUID(order.id)
b = uuid.uuid5(uuid.NAMESPACE_URL, order.url)

import numpy as np
---
rng = np.random.default_rng(7)
mean = np.mean(order.values)

import secrets
---
same = secrets.compare_digest(order.a, order.b)

import random
---
ok = isinstance(order.rng, random.Random)
""",
    "CDZ003": """
from pathlib import Path
---
path = Path(order.path) / 'x'
name = path.with_suffix('.md').name
return str(path.parent)

import os
---
path = os.path.join('a', order.name)
root, ext = os.path.splitext(path)

text = order.text.replace('a', 'b')
day = ctx.now().replace(hour=0)

account = order.open()
answer = order.input
async with order.exists() as x:
    pass

from urllib.parse import quote, urlparse
---
url = quote(order.name)
host = urlparse(url).netloc

import httpx
---
try:
    await ctx.step('load', httpx.URL('http://x'))
except httpx.HTTPError:
    raise

import sqlite3
---
try:
    await ctx.call('a', order)
except sqlite3.Error as error:
    raise ValueError from error

import requests
---
raise requests.HTTPError('no')

class Page:
    def read_text(self): return ''
---
page = Page()
for each in order:
    each.read_text()

def open(order): ...
---
open(order)

async def each(input):
    return input
await each(order)

@step
def load(path):
    with open(path) as file:
        return file.read()
---
text = await ctx.step(load, order.path)

import json, re
---
data = json.loads(order.text)
found = re.match('a', json.dumps(data))

def undo(path):
    open(path)
---
ctx.compensate(undo, order.path)
""",
    "CDZ004": """
await asyncio.sleep(60)

order.time.sleep(1)

def sleep(x): ...
---
sleep(1)
""",
    "CDZ005": """
lock = asyncio.Lock()
async with lock:
    pass

queue = asyncio.Queue()
await queue.put(1)
event = asyncio.Event()
event.set()

from cadenza import concurrent
---
await concurrent(ctx, ['a', 'b'], order)

loop = asyncio.get_running_loop()
future = loop.create_future()
loop.call_later(5, future.cancel)
""",
    "CDZ006": """
async with asyncio.timeout(60):
    await ctx.receive('paid')

await order.wait_for(1)

done, pending = await asyncio.wait([asyncio.create_task(order.a())], timeout=5)
""",
    "CDZ007": """
async def review(i): ...
---
tasks = [asyncio.create_task(review(i)) for i in order]
for each in asyncio.as_completed(tasks):
    await each

for each in asyncio.as_completed([ctx.call('a', i) for i in order]):
    await each

for each in asyncio.as_completed(order.tasks):
    await each

async def review(i): ...
---
results = await asyncio.gather(*(review(i) for i in order))
""",
    "CDZ008": """
key = order.environ['KEY']
name = order.getenv('x')

import os
@step
def key():
    return os.environ['KEY']
---
key = await ctx.step(key)

import os
LEVEL = os.environ.get('LEVEL')
---
LEVEL = order.level
return LEVEL

import sys
---
recent = sys.version_info >= (3, 12)
big = sys.maxsize
""",
    "CDZ009": """
for name in sorted({'a', 'b'}):
    await ctx.call(name, order)

seen = set()
for item in order:
    if item.id in seen:
        continue
    seen.add(item.id)
return len(seen)

names = {i.name for i in order}
names = sorted(names)
for name in names:
    await ctx.call(name, order)

names = {i.name for i in order}
return sorted(n.lower() for n in names), ', '.join(sorted(names))

a, b = set(order.a), set(order.b)
if a & b or a <= b:
    return max(a), sum(b), any(x in b for x in a)

longer = {n + 'x' for n in set(order)}
union = longer.union(x for x in {1, 2})
return sorted(union)

for key, value in {'a': 1, 'b': 2}.items():
    await ctx.call(key, value)

tasks = {asyncio.create_task(ctx.call('a', i)) for i in order}
while tasks:
    done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()

running = set()
for i in order:
    task = asyncio.create_task(ctx.call('a', i))
    running.add(task)
    task.add_done_callback(running.discard)
for task in running:
    task.cancel()

running: set[asyncio.Task[int]] = set()
await asyncio.gather(*running)

names = set(order)
names = list(order)
for name in names:
    await ctx.call(name, order)

from app import Context as OurContext
async def inner(ctx: OurContext):
    running = {ctx.call('a', i) for i in order}
    await asyncio.gather(*running)
await inner(ctx)

tasks = [asyncio.create_task(ctx.call('a', i)) for i in order]
left = set(tasks)
await asyncio.gather(*left)

left = set(order.tasks)
for task in left:
    task.cancel()
return [await task for task in left]

running = set()
running.update(map(asyncio.create_task, order.work))
done, left = await asyncio.wait(running)
await asyncio.gather(*running)

ALLOWED = {'a', 'b'}
---
return [name for name in order if name in ALLOWED]

[only] = set(order.names)
return only

return len(list(set(order))), sorted(list(set(order)), key=str), f'{len(set(order))}'

names = set(order)
async def inner(names):
    return [n for n in names]
await inner(sorted(names))

from mylib import set
---
for x in set(order):
    await ctx.call('a', x)

await map_reduce(ctx, sorted(set(order)), 'worker')
await ctx.step('a', set(order))
""",
    "CDZ010": """
id = order.id
hash = order.hash
return order.id(), id

import hashlib
---
return hashlib.sha256(order.raw).hexdigest()

class Key:
    def __hash__(self):
        return hash(self.name)
---
return {Key(): 1}
""",
    "CDZ011": """
CACHE = {}
---
CACHE = {}
CACHE[order.id] = order
return CACHE

SEEN = []
---
if order in SEEN:
    return len(SEEN)

SEEN = []
---
SEEN = list(order)
SEEN.append(1)

seen = []
def note(x):
    seen.append(x)
note(order)

count = 0
def up():
    nonlocal count
    count += 1
up()

order.items['a'] = 1
order.items.append(2)
del order.items['a']

class Basket:
    def __init__(self):
        self.items = []
    def put(self, x):
        self.items.append(x)
---
Basket().put(order)

import logging
log = logging.getLogger(__name__)
---
log.info('x')

COUNT = 3
---
global COUNT
return COUNT
""",
    "CDZ012": """
await ctx.run(flow, order)
task = asyncio.create_task(order.work())

order.run(1)
""",
    "CDZ013": """
try:
    await ctx.call('a', order)
except Exception:
    return None

try:
    await ctx.call('a', order)
except BaseException:
    await ctx.call('undo', order)
    raise

try:
    await ctx.call('a', order)
except BaseException as error:
    order.note(error)
    raise error

try:
    return int(order.text)
except:
    return 0

try:
    await ctx.call('a', order)
finally:
    order.close()

import contextlib
---
with contextlib.suppress(TimeoutError):
    await ctx.call('a', order)

task = asyncio.create_task(order.work())
task.cancel()
try:
    await task
except asyncio.CancelledError:
    pass

try:
    async def inner():
        await ctx.call('a', order)
except BaseException:
    pass
""",
    "CDZ014": """
@step
async def charge(order): ...
---
receipt = await ctx.step(charge.options(timeout_s=5), order)

@agent
async def judge(order): ...
---
verdict = await ctx.call(judge, order)

from shop import charge, total
---
await ctx.step(charge, order)
return total(order)

@step
async def charge(order): ...
---
async with asyncio.TaskGroup() as group:
    group.create_task(order.charge())

@step
async def charge(order): ...
@step
async def twice(order):
    await charge(order)
---
await ctx.step(twice, order)

from otherlib import step
@step
def charge(order): ...
---
charge(order)

@step
async def charge(order): ...
---
charge = order.charge
await charge(order)
""",
    "CDZ015": """
while True:
    await asyncio.sleep(60)

while True:
    async for each in order:
        pass

stack = [order]
while True:
    if not stack:
        break
    stack.pop()

while True:
    for x in order:
        pass
    else:
        break

n = 3
while n:
    n -= 1

try:
    while True:
        order.popitem()
except KeyError:
    pass
""",
    "CDZ016": """
if not ctx.replaying:
    print('started')

@step
def tell(text):
    print(text)
---
await ctx.step(tell, 'x')

order.print()
""",
}

REACHED = """
def a():
    return b()
def b():
    return time.time()
---
a()

async def a(ctx):
    return time.time()
---
async with asyncio.TaskGroup() as group:
    group.create_task(a(ctx))

async def a(ctx, item):
    return time.time()
---
await map_reduce(ctx, order, a)

stamp = lambda: time.time()
---
stamp()

async def inner():
    return [time.time() for _ in order]
await inner()

return sorted(order, key=lambda x: time.time())

class A:
    def when(self):
        return time.time()
---
A().when()

class A:
    def when(self):
        return self._when()
    def _when(self):
        return time.time()
---
a = A()
a.when()

class A:
    def when(self):
        return time.time()
class B(A): ...
---
B().when()

class A:
    @staticmethod
    def when():
        return time.time()
---
A.when()

class A:
    @classmethod
    def make(cls):
        return cls.when()
    @classmethod
    def when(cls):
        return time.time()
---
A.make()

class A:
    @property
    def when(self):
        return time.time()
---
a = A()
return a.when

class A:
    def when(self):
        return time.time()
def use(a: A):
    a.when()
---
use(order)

class A:
    def __init__(self):
        self.at = time.time()
---
A()

class A:
    def __post_init__(self):
        self.at = time.time()
---
return [A() for _ in order]

class A:
    name: str
    at: float = field(default_factory=time.time)
---
A("x", at=1)
A("y")

class A:
    at: float = Field(default_factory=lambda: time.time())
---
A()

def again(n):
    return again(n - 1) if n else time.time()
---
again(3)

def a(at=time.time()):
    return at
---
a()

class A:
    def when(self):
        return time.time()
@step
async def load() -> A: ...
---
a = await ctx.step(load)
a.when()
"""

NOT_REACHED = """
@step
async def a():
    return time.time()
---
await ctx.step(a)

@agent(description='x')
async def a(x):
    return time.time()
---
await ctx.call('a', order)

@step
async def a():
    return time.time()
await ctx.step(a)

def undo():
    return time.time()
class Saga:
    def __init__(self, ctx):
        self._ctx = ctx
    def register(self):
        self._ctx.compensate(undo)
---
Saga(ctx).register()

class A:
    name: str
    at: float = field(default_factory=time.time)
---
A("x", at=ctx.now().timestamp())
A("y", ctx.now().timestamp())
A(**order)

def undo():
    return time.time()
---
ctx.compensate(undo)

class A:
    def when(self):
        return time.time()
---
if isinstance(order, A):
    raise ValueError

def a():
    return time.time()
@step(effect='compensatable', undo=a)
async def b(): ...
---
await ctx.step(b)
"""

ORDINARY = """
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
from cadenza import Answer, Context, HumanTask, Retry, StepError
from cadenza import agent, concurrent, map_reduce, sequential, step, workflow

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
"""
