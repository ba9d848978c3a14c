"""GPUs of this machine without torch: what nvidia-smi, NVML, device files and variables say, and what a worker gets."""

import doctest
import os
import sys
import time
import types
from pathlib import Path

import pytest

from launch.local import idle
from launch.local.idle import READINGS, Idle, Reading, Thresholds, read_nvml, read_smi, reader
from launch.plan import devices
from launch.plan.devices import environment, parse_list, places, torch_is_for_rocm, visible_gpus
from synth.errors import InputError

TWO = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
"""
SLICED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
"""
# of nvidia-smi -q -x, what is read
DETAILS = """<?xml version="1.0" ?>
<nvidia_smi_log>
  <gpu id="00000000:10:00.0">
    <mig_devices>
      <mig_device><index>0</index><fb_memory_usage><total>20096 MiB</total><used>19 MiB</used></fb_memory_usage></mig_device>
      <mig_device><index>1</index><fb_memory_usage><total>20096 MiB</total><used>8000 MiB</used></fb_memory_usage></mig_device>
    </mig_devices>
    <uuid>GPU-aaaa</uuid><fb_memory_usage><used>8019 MiB</used></fb_memory_usage>
  </gpu>
  <gpu id="00000000:20:00.0"><mig_devices>None</mig_devices><uuid>GPU-bbbb</uuid></gpu>
</nvidia_smi_log>
"""
QUERIED = "0, GPU-aaaa, [N/A], 8019\n1, GPU-bbbb, 3, 5\n"
NODES = "sys/class/kfd/kfd/topology/nodes"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi of these lines of a shell on a PATH that has no other; without any there is none."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def put(*lines: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.write_text("#!/bin/bash\n" + "\n".join(lines))
        os.chmod(program, 0o700)

    return put


@pytest.fixture
def without_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def root(tmp_path):
    """The root of a fake machine: (path, text) puts a file there."""

    def put(path: str, text: str = "") -> Path:
        file = tmp_path / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return tmp_path / "root"

    return put


def says(text: str) -> str:
    return f"printf '%s' '{text}'"


def nvml(monkeypatch, cards):
    """A fake driver's library: a card is (uuid, utilisation or None, MiB, [(uuid of a slice, MiB), ...])."""
    library = types.ModuleType("pynvml")
    library.NVMLError = type("NVMLError", (Exception,), {})
    library.NVMLError_NotFound = type("NVMLError_NotFound", (library.NVMLError,), {})

    def slice_of(card, i):
        if i % 2:  # numbered with gaps
            raise library.NVMLError_NotFound
        return (*card[3][i // 2][:1], None, card[3][i // 2][1], [])

    def most_slices(card):
        if not card[3]:
            raise library.NVMLError
        return 2 * len(card[3])

    def utilisation(card):
        if card[1] is None:
            raise library.NVMLError
        return types.SimpleNamespace(gpu=card[1])

    library.nvmlInit = library.nvmlShutdown = lambda: None
    library.nvmlDeviceGetCount = lambda: len(cards)
    library.nvmlDeviceGetHandleByIndex = lambda i: cards[i]
    library.nvmlDeviceGetUUID = lambda card: card[0].encode()
    library.nvmlDeviceGetMaxMigDeviceCount = most_slices
    library.nvmlDeviceGetMigDeviceHandleByIndex = slice_of
    library.nvmlDeviceGetUtilizationRates = utilisation
    library.nvmlDeviceGetMemoryInfo = lambda card: types.SimpleNamespace(used=card[2] * 2**20)
    monkeypatch.setitem(sys.modules, "pynvml", library)


def test_the_examples_of_the_docstrings_hold():
    assert doctest.testmod(devices).failed == doctest.testmod(idle).failed == 0


# -- which GPUs there are ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2, 5"}, ("2", "5")),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8c5e,MIG-77aa"}, ("GPU-8c5e", "MIG-77aa")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "1"}, ("1",)),
        ({"HIP_VISIBLE_DEVICES": "1,3"}, ("1", "3")),
        ({"ROCR_VISIBLE_DEVICES": "4,5"}, ("0", "1")),
    ],
)
def test_a_variable_names_the_gpus(env, gpus, smi):
    smi(says(TWO))
    assert visible_gpus(env) == gpus


def test_a_variable_that_names_no_gpu_is_refused():
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES=a100: 'a100'"):
        visible_gpus({"CUDA_VISIBLE_DEVICES": "a100"})


def test_nvidia_smi_lists_cards_and_a_card_in_mig_mode_is_its_slices(smi, root):
    smi(says(TWO))
    assert visible_gpus({}, root("etc/none")) == ("0", "1")
    smi(says(SLICED))
    assert visible_gpus({}, root("etc/none")) == ("MIG-1111", "MIG-2222", "GPU-bbbb")
    assert parse_list("No devices found.\n") == []


def test_an_nvidia_smi_that_hangs_does_not_hide_the_gpus_and_is_told_of(smi, root, monkeypatch):
    monkeypatch.setattr("synth.host.gpu.SMI_PATIENCE", 0.3)
    smi("while true; do read -t 30 <> <(:); done")
    root("dev/nvidia0")
    root("dev/nvidia-uvm")
    told, begun = [], time.monotonic()
    assert visible_gpus({}, root("dev/nvidia1"), told.append) == ("0", "1")
    assert len(told) == 1 and "nvidia-smi did not answer" in told[0] and time.monotonic() - begun < 25  # the program reads for 30 s


def test_without_nvidia_smi_nvml_counts_and_without_both_the_device_files(smi, root, monkeypatch):
    nvml(monkeypatch, [("GPU-a", 0, 5, [("MIG-x", 1), ("MIG-y", 2)]), ("GPU-b", 0, 5, [])])
    assert visible_gpus({}, root("dev/nvidia0")) == ("MIG-x", "MIG-y", "GPU-b")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert visible_gpus({}, root("dev/nvidia3")) == ("0", "1")


def test_an_nvidia_smi_that_fails_does_not_hide_the_gpus(smi, root, without_nvml):
    smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert visible_gpus({}, root("dev/nvidia0")) == ("0",)


def test_a_driver_that_shows_no_gpu_is_an_error_and_no_cpu(smi, root, without_nvml):
    with pytest.raises(InputError, match="shows no GPU"):
        visible_gpus({}, root("dev/nvidiactl"))
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, root("dev/nvidiactl")) == ()


def test_a_machine_without_gpus_has_none_even_where_nvidia_smi_is_installed(smi, root, without_nvml):
    smi('echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9')
    assert visible_gpus({}, root("etc/none")) == ()


def test_gpus_of_amd_count_where_torch_is_built_for_them_and_are_told_of_elsewhere(smi, root, without_nvml, monkeypatch):
    root("dev/kfd")
    root(f"{NODES}/0/properties", "cpu_cores_count 64\nsimd_count 0\n")
    root(f"{NODES}/10/properties", "simd_count 304\n")
    machine, told = root(f"{NODES}/2/properties", "simd_count 304\n"), []
    assert visible_gpus({}, machine, told.append) == () and "2 GPUs of AMD" in told[0]
    monkeypatch.setattr(devices, "torch_is_for_rocm", lambda: True)
    assert visible_gpus({}, machine, told.append) == ("0", "1") and len(told) == 1


@pytest.mark.parametrize(("line", "rocm"), [("hip: Optional[str] = '6.4.43482'", True), ("hip: Optional[str] = None", False), ("", False)])
def test_what_torch_is_built_for_is_read_without_importing_it(line, rocm, tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "torch" / "version.py").write_text(f"cuda: Optional[str] = '13.0'\n{line}\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch_is_for_rocm() is rocm


# -- what a worker gets -----------------------------------------------------------------------------------------------------


def test_a_worker_is_given_its_gpus_by_indices_of_the_bus_and_one_on_cores_none():
    assert environment(("2", "3"), {}) == {"CUDA_VISIBLE_DEVICES": "2,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environment(("MIG-1",), {}) == {"CUDA_VISIBLE_DEVICES": "MIG-1"}
    assert environment(None, {}) == {"CUDA_VISIBLE_DEVICES": ""}
    assert environment(("1",), {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}) == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_worker_is_told_of_which_gpus_of_the_launcher_its_own_are_a_share():
    assert environment(("2",), {"CUDA_VISIBLE_DEVICES": "1, 2"})["SYNTHSET_JOB_GPUS"] == "1,2"
    assert environment(("1",), {"ROCR_VISIBLE_DEVICES": "4,5"})["SYNTHSET_JOB_GPUS"] == "0,1"
    assert "SYNTHSET_JOB_GPUS" not in environment(("1",), {"CUDA_VISIBLE_DEVICES": "0,1", "SYNTHSET_JOB_GPUS": "0,1,2,3"})
    assert "SYNTHSET_JOB_GPUS" not in environment(None, {"CUDA_VISIBLE_DEVICES": "0"})


def test_rocm_is_told_by_its_own_variable():
    inherited = {"ROCR_VISIBLE_DEVICES": "4,5"}
    assert environment(("1",), inherited)["HIP_VISIBLE_DEVICES"] == "1"
    assert environment(None, inherited) == {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "-1"}


def test_a_worker_of_several_gpus_gets_whole_ones_or_a_refusal():
    assert places(("MIG-1", "GPU-a", "GPU-b"), 8, "captions", 2) == [("GPU-a", "GPU-b")]
    with pytest.raises(InputError, match="there are 1 here"):
        places(("0",), 4, "captions", 2)
    with pytest.raises(InputError, match="0 here and 2 MIG slices"):
        places(("MIG-1", "MIG-2"), 4, "captions", 2)


# -- which are idle ---------------------------------------------------------------------------------------------------------


def idle_names(read) -> list[str]:
    watch = Idle(read, Thresholds())
    return [r.name for _ in range(READINGS) for r in watch.look()]


def test_slices_are_read_by_nvidia_smi_and_their_memory_alone_decides(smi):
    smi('case "$*" in', f"-L) {says(SLICED)}", ";;", f'"-q -x") {says(DETAILS)}', ";;", f"*) {says(QUERIED)}", ";;", "esac")
    assert idle_names(read_smi) == ["MIG-1111", "1"]
    watch = Idle(read_smi, Thresholds())
    assert watch.check(("GPU-bb",), {}) == []
    (remark,) = watch.check(("MIG-2222", "GPU-bbbb"), {})
    assert "MIG-2222 is a MIG slice" in remark and "memory alone" in remark


def test_slices_are_read_by_nvml(monkeypatch):
    nvml(monkeypatch, [("GPU-a", None, 900, [("MIG-x", 1), ("MIG-y", 5000)]), ("GPU-b", 4, 5, []), ("GPU-c", None, 5, [])])
    assert idle_names(read_nvml) == ["MIG-x", "1"]
    (remark,) = Idle(read_nvml, Thresholds()).check(("MIG-x", "2")[1:], {})
    assert "counts as busy" in remark


def test_names_and_beginnings_of_uuids_mean_the_same_gpu():
    first, second = Reading("0", "GPU-8c5e", 0, 0), Reading("1", "GPU-77aa", 0, 0)
    assert [first.is_called(n) for n in ("0", "GPU-8c5e", "GPU-8c", "1", "GPU-77")] == [True, True, True, False, False]
    watch = Idle(lambda: [first, second], Thresholds())
    for _ in range(READINGS):
        looked = watch.look(mine=["GPU-77"])
    assert looked == [first]


def test_a_gpu_that_could_never_be_found_idle_is_refused_before_anybody_waits():
    watch = Idle(lambda: [Reading("0", "GPU-8c5e", 0, 0), Reading("1", "GPU-8c77", 0, 0)], Thresholds())
    with pytest.raises(InputError, match="GPU-99 is 0 of the GPUs that can be read"):
        watch.check(("GPU-99",), {})
    with pytest.raises(InputError, match="GPU-8c is 2 of"):
        watch.check(("GPU-8c",), {})
    with pytest.raises(InputError, match="CUDA_DEVICE_ORDER=FASTEST_FIRST"):
        watch.check(("0",), {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"})


def test_where_nothing_can_be_read_idle_gpus_are_refused(smi, without_nvml):
    with pytest.raises(InputError, match="how busy a GPU is cannot be read"):
        reader()
