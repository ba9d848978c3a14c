"""Secrets in the config: refused by the name of their field, never shown, and nothing that is no secret is."""

import pytest

from launch.config.check import check
from launch.config.compose import Composer, typed
from launch.config.root import Config
from launch.config.secrets import check_config, is_field, names_of
from launch.plan.graph import plan_point
from synth.errors import InputError
from synth.keys import documented

SECRET = "s3cr3t-0123456789"
SERVED = ["captioner=served", "captioner.model=m"]
LINES = {  # settings -> the key that is named
    "captioner.body.extra_headers": ["captioner=openai", f"captioner.body={{extra_headers:{{X-Auth:{SECRET}}}}}"],
    "captioner.body.api_key": ["captioner=openai", f"captioner.body={{api_key:{SECRET}}}"],
    "captioner.body.a.Authorization": ["captioner=openai", f"captioner.body={{a:{{Authorization:'Bearer {SECRET}'}}}}"],
    "captioner.body.b[0].accessToken": ["captioner=openai", f"captioner.body={{b:[{{accessToken:{SECRET}}}]}}"],
    "captioner.flags": [*SERVED, f"captioner.flags=[--api-key,{SECRET}]"],
    "captioner.command": [*SERVED, f"captioner.command=[serve,'{{port}}','--hf-token={SECRET}']"],
    "model.command": ["model=external", f"model.command=[env,'HF_TOKEN={SECRET}',draw]"],
    "notify.command": [f"notify.command='ntfy publish --token {SECRET} runs'"],
    "cluster.env.HF_TOKEN": ["cluster=slurm", f"+cluster.env.HF_TOKEN={SECRET}"],
    "cluster.stages.images.env.MY_PASSWORD": ["cluster=slurm", f"+cluster.stages.images.env.MY_PASSWORD={SECRET}"],
    "cluster.env.WANDB_KEY": ["cluster=slurm", f"+cluster.env.WANDB_KEY={SECRET}"],
    "captioner.body.encryption_key": ["captioner=openai", f"captioner.body={{encryption_key:{SECRET}}}"],
    "cluster.setup": ["cluster=slurm", f"cluster.setup=['cd /x; export HF_TOKEN=\"{SECRET}\"']"],
    "cluster.extra.password": ["cluster=slurm", f"+cluster.extra.password={SECRET}"],
}
HEADERS = {  # the same of keys that are above with something else
    f"notify.command='curl -H \"Authorization: Bearer {SECRET}\" https://ntfy.sh/runs'": "notify.command",
    f"notify.command='curl -H \"X-Api-Key: {SECRET}\" https://ntfy.sh/runs'": "notify.command",
    f"captioner.command=[serve,'{{port}}',-H,'Authorization: {SECRET}']": "captioner.command",
}
FINE = [
    [
        "captioner=openai",
        "captioner.model=m",
        "captioner.body={max_tokens:null,max_completion_tokens:100,eos_token:x,top_k:50,api_key:null}",
    ],
    ["captioner=openai", "captioner.api_key_env=MY_KEY", "captioner.model=m"],
    ["captioner=hf", "captioner.template={token:x,enable_thinking:false}"],
    ["notify.command='curl -d \"$SYNTHSET_OUTCOME\" --netrc-file=/home/me/.netrc https://ntfy.sh/runs'"],
    ['notify.command=\'curl -H "Authorization: Bearer $(cat ~/.ntfy)" -H "Title: done: all" https://ntfy.sh/runs\''],
    [*SERVED, "captioner.command=[env,'API_KEY_FILE=/x',serve,'{port}','--api-key-file=/x']"],
    [*SERVED, "captioner.flags=[--max-num-batched-tokens,'100',--tokenizer-mode,auto,--api-key-file,/x,--trust-remote-code]"],
    [
        "cluster=slurm",
        "+cluster.env.TOKENIZERS_PARALLELISM=false",
        "+cluster.env.HF_TOKEN_PATH=/x",
        "+cluster.env.HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
        "cluster.setup=['export HF_TOKEN=$(cat ~/.hf)','export A_KEYS=x B_TOKEN=\"$T\"']",
    ],
]


@pytest.mark.parametrize("where", LINES)
def test_a_secret_on_the_command_line_is_refused_before_anything_else_is_said(where):
    with pytest.raises(InputError) as e:
        check(LINES[where])
    fix = "a file that the command reads" if where == "notify.command" else "captioner.api_key_env"
    assert str(e.value).startswith(f"{where}: holds a secret") and SECRET not in str(e.value) and fix in str(e.value)


@pytest.mark.parametrize("setting", HEADERS)
def test_a_secret_in_a_header_of_a_command_is_refused(setting):
    with pytest.raises(InputError) as e:
        check([*(SERVED if "captioner" in setting else ()), setting])
    assert str(e.value).startswith(f"{HEADERS[setting]}: holds a secret") and SECRET not in str(e.value)


@pytest.mark.parametrize("where", LINES)
def test_a_secret_in_a_file_of_the_user_is_refused_when_the_run_is_planned(where):
    with pytest.raises(InputError) as e:
        plan_point(typed(Composer().compose(LINES[where])))
    assert str(e.value).startswith(f"{where}: holds a secret") and SECRET not in str(e.value)


@pytest.mark.parametrize("line", FINE)
def test_what_is_no_secret_is_taken(line):
    check(line)
    check_config(typed(Composer().compose(line)))


def test_a_sweep_over_secrets_is_refused_too():
    with pytest.raises(InputError, match=r"captioner\.body\.token: holds a secret"):
        check(["-m", "captioner=openai", f"captioner.body={{top_k:1}},{{token:{SECRET}}}"])


def test_the_value_of_a_secret_variable_is_found_wherever_it_stands(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    with pytest.raises(InputError, match="the value of SOME_API_KEY stands in the command line") as e:
        check(["captioner=openai", f"captioner.model=m-{SECRET}"])
    assert SECRET not in str(e.value)


def test_no_key_of_ours_looks_like_a_secret():
    keys = [key for key, _ in documented(Config)]
    assert len(keys) > 50 and not [key for key in keys if is_field(key.rpartition(".")[2])]


def test_pass_env_takes_names_alone():
    assert names_of("model", None) == () and names_of("model", ["HF_TOKEN"]) == ("HF_TOKEN",)
    with pytest.raises(InputError, match=r"model\.pass_env: holds what is no name") as e:
        names_of("model", [SECRET])
    assert SECRET not in str(e.value)
