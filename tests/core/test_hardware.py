"""Which machine a driver's name means, and which it does not; what is measured instead."""

import types

import pytest
import torch

from arabic_dialog.core import hardware
from arabic_dialog.core.hardware import HARDWARE, MACHINES, Hardware, count_gpus, recognise
from arabic_dialog.core.records import UserError

GIB = 2**30
PRINTED = [  # as drivers print it, GiB of memory as PyTorch says them, the row
    ("NVIDIA A100-SXM4-40GB", 39.39, "a100-40"),
    ("A100-SXM4-40GB", 39.59, "a100-40"),
    ("NVIDIA A100-PCIE-40GB", 39.39, "a100-40-pcie"),
    ("NVIDIA A100-SXM4-80GB", 79.15, "a100"),
    ("NVIDIA A100 80GB PCIe", 79.15, "a100-80-pcie"),
    ("NVIDIA H100 80GB HBM3", 79.19, "h100"),
    ("NVIDIA H100 PCIe", 79.19, "h100-pcie"),
    ("NVIDIA H100 NVL", 93.1, "h100-nvl"),
    ("NVIDIA H200", 139.8, "h200"),
    ("NVIDIA GeForce RTX 4090", 23.64, "rtx4090"),
    ("NVIDIA GeForce RTX 4070", 11.6, "rtx4070"),
    ("NVIDIA GeForce RTX 3060", 11.76, "rtx3060"),
    ("Tesla T4", 14.75, "t4"),
    ("NVIDIA L4", 22.05, "l4"),
    ("NVIDIA L40S", 44.4, "l40s"),
    ("NVIDIA A10G", 22.2, "a10g"),
    ("AMD Instinct MI300X", 191.98, "mi300x"),
    ("AMD Instinct MI300X OAM", 191.98, "mi300x"),
    ("Apple M2 Max", 96, "m2max"),
    ("Apple M3 Max", 128, "m3max"),
]
UNKNOWN = [  # names that hold another machine's name, or its memory in part
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.6),
    ("NVIDIA GeForce RTX 4090 D", 23.6),
    ("NVIDIA GeForce RTX 4070 Ti SUPER", 15.6),
    ("NVIDIA GeForce RTX 3060", 7.8),  # the card of 8 GB, with a narrower memory
    ("NVIDIA GeForce RTX 3060 Ti", 7.8),
    ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.75),
    ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 39.5),
    ("NVIDIA A100-SXM4-80GB", 39.4),  # a slice whose name does not say so
    ("NVIDIA A100-SXM-64GB", 63.4),
    ("NVIDIA A100X", 79.2),
    ("GRID A100-40C", 39.5),
    ("NVIDIA A10", 22.2),
    ("NVIDIA L40", 44.4),
    ("NVIDIA H200 NVL", 139.8),
    ("NVIDIA GH200 480GB", 94.5),
    ("NVIDIA H20", 95.1),
    ("NVIDIA T400", 3.8),
    ("AMD Instinct MI300A", 127.5),
    ("Apple M2", 24),
    ("Apple M3 Max", 36),  # with 30 cores and a slower memory
    ("", 8),
]


@pytest.mark.parametrize("name, gib, key", PRINTED)
def test_a_name_as_drivers_print_it_is_the_right_row_with_the_memory_that_is_there(name, gib, key):
    found = recognise(name, gib * GIB)
    assert found.name == HARDWARE[key].name and found.memory == gib * GIB
    assert (found.bandwidth, found.flops) == (HARDWARE[key].bandwidth, HARDWARE[key].flops)
    assert recognise(name).name == HARDWARE[key].name


@pytest.mark.parametrize("name, gib", UNKNOWN)
def test_part_of_a_name_or_another_memory_is_no_machine_that_is_known(name, gib):
    assert recognise(name, gib * GIB) is None


def test_no_two_rows_have_a_name_in_common_and_all_figures_are_figures():
    names = [name for row in MACHINES.values() for name in row.names]
    assert len(names) == len(set(names))
    for h in HARDWARE.values():
        assert min(h.memory, h.bandwidth, h.flops, h.watts) > 0
        assert h.source in ("published", "measured", "computed", "assumed", "memory")
    assert HARDWARE["t4"].arithmetic == "float16" and HARDWARE["t4"].memory == 15e9


class Cuda:
    "GPUs that there are not: torch.cuda of a machine with them"

    def __init__(self, *gpus):  # (name, GiB, compute capability)
        self.gpus = gpus

    def is_available(self):
        return bool(self.gpus)

    def device_count(self):
        return len(self.gpus)

    def get_device_properties(self, index):
        name, gib, _ = self.gpus[index]
        return types.SimpleNamespace(name=name, total_memory=gib * GIB)

    def get_device_capability(self, index=0):
        return self.gpus[index][2]

    def mem_get_info(self, index=0):
        return self.gpus[index][1] * GIB, self.gpus[index][1] * GIB

    def is_bf16_supported(self):
        return True  # what PyTorch says of a T4 as well

    def empty_cache(self):
        pass


@pytest.fixture
def machine(monkeypatch):
    def have(*gpus):
        monkeypatch.setattr(torch, "cuda", Cuda(*gpus))
        hardware.gpus_here.cache_clear()
        hardware.hardware_here.cache_clear()

    yield have
    hardware.gpus_here.cache_clear()
    hardware.hardware_here.cache_clear()


def test_two_cards_are_two_and_do_not_share_their_memory(machine):
    machine(("Tesla T4", 14.75, (7, 5)), ("Tesla T4", 14.75, (7, 5)))
    here = hardware.hardware_here()
    assert here.count == 2 and here.memory == 14.75 * GIB and "the first of 2 GPUs" in here.name
    assert hardware.gpu_memory() == 14.75 * GIB
    assert not hardware.has_bfloat16() and hardware.half_precision() == "float16"


def test_models_lie_on_the_first_card_and_the_other_kind_is_named(machine):
    machine(("NVIDIA GeForce RTX 3060", 11.76, (8, 6)), ("NVIDIA GeForce RTX 4090", 23.6, (8, 9)))
    here = hardware.hardware_here()
    assert here.bandwidth == 360e9 and "beside one RTX 4090" in here.name
    assert hardware.gpu_memory() == 11.76 * GIB  # not the larger one's
    assert hardware.half_precision() == "bfloat16"


def test_an_unknown_card_is_measured_in_what_it_multiplies_natively(machine, monkeypatch):
    asked = []

    def speed(device, arithmetic, n_bytes):
        asked.append((arithmetic, n_bytes))
        return 5e11, 4e13

    monkeypatch.setattr(hardware, "measure_speed", speed)
    machine(("NVIDIA Quadro RTX 6000", 23.6, (7, 5)))
    assert hardware.hardware_here() == Hardware(
        "NVIDIA Quadro RTX 6000", 23.6 * GIB, 5e11, 4e13, 0, "measured", "float16"
    )
    assert asked == [("float16", 2**30)]
    machine(("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.75, (8, 0)))
    assert hardware.hardware_here().source == "measured"
    assert asked[-1] == ("bfloat16", int(4.75 * GIB // 8))


def test_a_measured_speed_is_that_of_the_device():
    cpu = torch.device("cpu")
    bandwidth, flops = hardware.measure_speed(cpu, "float32", 2**24, 512, 3)
    assert 1e8 < bandwidth < 1e13 and 1e8 < flops < 1e14


def test_a_processor_is_assumed_for_a_manifest_and_measured_for_a_plan(machine):
    machine()
    assert hardware.hardware_here().source == "assumed" and hardware.gpu_memory() == 0
    here = hardware.load_hardware("here")
    assert here.source == "measured" and here.watts == 0
    with pytest.raises(UserError, match="there are here, h100, h200, h100-pcie"):
        hardware.load_hardware("abacus")


def test_one_card_keeps_its_name():
    assert count_gpus([HARDWARE["l4"]]) == HARDWARE["l4"]
