"""The peers: how each is installed, started and asked. All stand before the same mock LLM and get the same messages."""
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from peers.children import Child, Failed, answers, environment, free_port, listening, nginx, started
from peers.clients import version

INSTALL_SECONDS_MAX = 1200
LITELLM_READY_SECONDS, READY_SECONDS = 180, 60
BASELINE = "Answer with exactly one of the intents in the list, through the tool where there is one."
VARIANTS = ["Name the intent of the message. One label, nothing else.", "Which label of the list fits? Say only that.",
            "You sort messages of a bank's customers. Answer with one label."]
QUESTION = "Which intent is this: I still have not received my new card, I ordered over a week ago?"


@dataclass
class Target:
    """Something to measure: where requests go, with which body, and the processes behind it."""

    name: str
    about: str
    url: str
    body: str
    version: str = ""
    children: list[Child] = field(default_factory=list)
    #: Makes a fresh URL, where one can't be used for ever.
    renew: object = None
    #: What the client shows; made for this run.
    api_key: str = field(default="", repr=False)

    def fresh_url(self):
        return self.renew() if self.renew else self.url

    def rss_bytes(self):
        return sum(child.rss_bytes() for child in self.children)

    def check(self):
        for child in self.children:
            child.check()


class Absent(Exception):
    """A peer can't be had on this machine; the message says why."""


@dataclass
class Ground:
    """What peers are started with."""

    mipro: str
    folder: str  # of this run
    keep: str  # of installed environments
    mock: str = ""  # the mock's base URL, without /v1

    def path(self, *parts):
        path = os.path.join(self.folder, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def body(self, name, model):
        messages = [{"role": "system", "content": BASELINE}, {"role": "user", "content": QUESTION}]
        return self.write(f"body-{name}.json", json.dumps({"model": model, "messages": messages, "temperature": 0.0}))

    def env(self, **more):
        return environment(self.folder, **more)


@contextlib.contextmanager
def mock_llm(ground):
    """The one upstream; its child and URL."""
    command = [ground.mipro, "mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"]
    with started("mock-llm", command, ground.path("mock.log"), ground.env()) as child:
        yield child, child.wait_for(lambda: listening(child), READY_SECONDS)


@contextlib.contextmanager
def direct(ground):
    yield [Target("direct", "no proxy: the mock itself", f"{ground.mock}/v1/chat/completions", ground.body("direct", "m"))]


@contextlib.contextmanager
def bare_nginx(ground):
    if not (shutil.which("nginx") or os.path.exists("/usr/sbin/nginx")):
        raise Absent("no nginx here (apt-get install nginx-light)")
    server = f"""upstream mock {{ server {ground.mock.removeprefix("http://")}; keepalive 256; keepalive_requests 1000000000; }}
server {{ listen 127.0.0.1:{{port}}; location / {{
proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}"""
    with nginx(ground.folder, "nginx", server) as (child, port):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        known = version([shutil.which("nginx") or "/usr/sbin/nginx", "-v"]).rpartition("/")[2]
        about = "bare proxy, one process: parses, picks and keeps nothing"
        yield [Target("nginx", about, url, ground.body("nginx", "m"), known, [child])]


KEPT = {"disk": "logged and synced before the answer leaves", "memory": "kept in memory, as its neighbours do with less"}


@contextlib.contextmanager
def ours(ground, durability):
    """Two targets of one service: each request a rollout of its own (picked, rendered, logged), and further calls of one."""
    command = [ground.mipro, "serve", "--listen", "127.0.0.1:0", "--data-dir", ground.path(f"data-{durability}", "x")[:-2],
               "--durability", durability, "--upstream", f"{ground.mock}/v1"]
    with started(f"mipro serve ({durability})", command, ground.path(f"serve-{durability}.log"), ground.env()) as child:
        service = child.wait_for(lambda: listening(child), READY_SECONDS)
        body = ground.body(f"mipro-{durability}", "gpt-4.1-nano")
        known = version([ground.mipro, "--version"]).removeprefix("mipro ")
        start = lambda: proxy_url(service) + "/{rollout}/chat/completions"
        again = lambda: proxy_url(service) + "/peers/chat/completions"
        yield [
            Target(f"mipro, {durability}", f"each call starts a rollout: candidate picked, prompt rendered, {KEPT[durability]}",
                   "", body, known, [child], start),
            Target(f"mipro, {durability}, same rollout", "further calls of one rollout: its candidate looked up, prompt rendered",
                   "", body, known, [child], again),
        ]


def proxy_url(service):
    """Creates a job with four candidates and gives its proxy URL."""
    prompt = {"id": "peers", "name": "Peers", "wildcards": {"query": "REQUIRED"}, "messages": [
        {"role": "system", "order": 0, "pattern": BASELINE}, {"role": "user", "order": 1, "pattern": "Which intent is this: {query}?"}]}
    mipro = {"mode": "online", "online_proposer_mode": "inline", "online_proposer_min_rollouts": 20}
    policy = {"model": "gpt-4.1-nano", "provider": "openai", "inference_mode": "synth_hosted"}
    config = {"algorithm": "mipro", "task_app_id": "peers", "task_app_url": "http://127.0.0.1:9",
              "initial_prompt": prompt, "policy": policy, "mipro": mipro}
    jobs = f"{service}/api/prompt-learning/online/jobs"
    job = post(jobs, {"algorithm": "mipro", "config_body": {"prompt_learning": config}})
    metadata = json.loads(answers(f"{jobs}/{job['job_id']}") or b"{}").get("metadata", {})
    if "mipro_proxy_url" not in metadata:
        raise Failed("the service's job tells no metadata.mipro_proxy_url")
    system = metadata["mipro_system_id"]
    for text in VARIANTS:
        post(f"{service}/api/prompt-learning/online/mipro/systems/{system}/candidates", {"deltas": {"instruction_text": text}})
    return metadata["mipro_proxy_url"]


def post(url, body):
    answer = answers(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, 30)
    if answer is None:
        raise Failed(f"the service refused POST {url.partition('/api/')[2]}")
    return json.loads(answer)


def venv(ground, package, module):
    """The Python of an environment with the package, made if it isn't kept from another run; and the package's version."""
    home = os.path.join(ground.keep, f"venv-{module}")
    python = os.path.join(home, "bin", "python")
    known = [python, "-c", f"import importlib.metadata as m; print(m.version({module!r}))"]
    if not (os.path.exists(python) and subprocess.run(known, capture_output=True, check=False).returncode == 0):
        print(f"installing {package} into {home} …", file=sys.stderr, flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", home], check=True, capture_output=True)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
            subprocess.run(pip, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Absent(f"pip did not install {package} within {INSTALL_SECONDS_MAX} s") from None
        except subprocess.CalledProcessError as error:
            said = (error.stderr if isinstance(error.stderr, str) else "").strip().splitlines()
            raise Absent(f"pip can't install {package}: {said[-1] if said else error}") from None
    return python, version(known)


LITELLM_CONFIG = """model_list:
  - model_name: m
    litellm_params: {{ model: openai/m, api_base: {mock}/v1, api_key: none }}
litellm_settings: {{ telemetry: false }}
"""


@contextlib.contextmanager
def litellm(ground):
    python, known = venv(ground, "litellm[proxy]", "litellm")
    port = free_port()
    config = ground.write("litellm.yaml", LITELLM_CONFIG.format(mock=ground.mock))
    command = [os.path.join(os.path.dirname(python), "litellm"), "--config", config, "--host", "127.0.0.1",
               "--port", str(port), "--num_workers", "1"]
    # It refuses to start without a key, and with a weak one.
    key = f"sk-{secrets.token_hex(32)}"
    env = ground.env(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR", LITELLM_MASTER_KEY=key)
    with started("litellm", command, ground.path("litellm.log"), env) as child:
        base = f"http://127.0.0.1:{port}"
        child.wait_for(lambda: answers(f"{base}/health/liveliness"), LITELLM_READY_SECONDS)
        yield [Target("LiteLLM", "pip's `litellm[proxy]`, one worker, no database, its one master key", f"{base}/v1/chat/completions",
                      ground.body("litellm", "m"), known, [child], api_key=key)]


TENSORZERO_CONFIG = """[gateway]
observability.enabled = false

[models.m]
routing = ["mock"]

[models.m.providers.mock]
type = "openai"
model_name = "m"
api_base = "{mock}/v1/"
api_key_location = "none"

[functions.classify]
type = "chat"

[functions.classify.variants.a]
type = "chat_completion"
model = "m"
weight = 1

[functions.classify.variants.b]
type = "chat_completion"
model = "m"
weight = 1
"""

TENSORZERO_START = """import sys, threading
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False)
print("listening on", gateway.base_url, flush=True)
threading.Event().wait()
"""


@contextlib.contextmanager
def tensorzero(ground):
    python, known = venv(ground, "tensorzero", "tensorzero")
    config = ground.write("tensorzero.toml", TENSORZERO_CONFIG.format(mock=ground.mock))
    start = ground.write("tensorzero-start.py", TENSORZERO_START)
    with started("tensorzero", [python, start, config], ground.path("tensorzero.log"), ground.env()) as child:
        base = child.wait_for(lambda: listening(child), READY_SECONDS).rstrip("/")
        about = "the PyPI wheel's embedded gateway, observability off, two variants by weight"
        body = ground.body("tensorzero", "tensorzero::function_name::classify")
        yield [Target("TensorZero's wheel", about, f"{base}/chat/completions", body, known, [child])]


#: In the order in which they are measured; the first is what the others are held against.
PEERS = {
    "direct": direct,
    "nginx": bare_nginx,
    "memory": lambda ground: ours(ground, "memory"),
    "disk": lambda ground: ours(ground, "disk"),
    "litellm": litellm,
    "tensorzero": tensorzero,
}
