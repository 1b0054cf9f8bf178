#!/usr/bin/python
# Copyright: (c) 2026, baremetal.llm maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: What GPUs a host has, and whether programs can use them
version_added: "0.2.0"
author: baremetal.llm maintainers (@baremetal-llm)
description:
  - Reads the GPUs of a Linux host, their memory, links, health and MIG devices, the driver, and the NVIDIA errors (XID)
    of the kernel log.
  - It asks the PCI bus first, so it knows a GPU without a driver, and needs no C(lspci). NVIDIA GPUs are then read with
    C(nvidia-smi), else with the Python package C(pynvml), AMD GPUs with C(amd-smi), else with C(rocm-smi).
  - RV(gpus) is what the sizing filters of this collection take as the GPUs of a host.
  - What a driver does not tell is V(none), never V(0). Memory is in MiB (2**20 bytes).
options:
  required:
    description: Fail, with the sentence of RV(problem), on a host where RV(usable) is false.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for each command. A driver that hangs is told in RV(problem).
    type: int
    default: 30
  xid_hours:
    description: How many hours of the kernel log to search for XID errors; V(0) is all of it.
    type: int
    default: 24
  nvidia_smi:
    description:
      - Path of C(nvidia-smi). The module fails where there is no such program.
      - Without it, the module looks in E(PATH), C(/usr/bin), C(/usr/local/nvidia/bin) and C(/usr/lib/wsl/lib).
    type: path
requirements:
  - C(nvidia-smi) for NVIDIA GPUs; without it the Python package C(nvidia-ml-py) (module C(pynvml)) on the host gives
    the core fields.
  - C(amd-smi) or C(rocm-smi) for AMD GPUs.
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: N/A
    details: This module changes nothing.
  idempotent:
    description: When run twice in a row outside check mode with the same arguments, the second run changes nothing.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: Linux
notes:
  - Only root and the group C(adm) may read the kernel log; for other users RV(xid_errors) is empty, and a warning says
    so.
  - While nobody uses an NVIDIA GPU without persistence mode, each call loads its driver state, which takes seconds.
"""

EXAMPLES = r"""
- name: What GPUs has this host
  baremetal.llm.gpu_info:
  register: probe

- name: Show the memory that is free
  ansible.builtin.debug:
    msg: "GPU {{ item.index }} {{ item.name }}: {{ item.memory_free_mib }} of {{ item.memory_total_mib }} MiB free"
  loop: "{{ probe.gpus }}"
  loop_control:
    label: "{{ item.uuid }}"

- name: Stop at a host whose GPUs cannot be used, and say why
  baremetal.llm.gpu_info:
    required: true
  become: true

- name: Refuse a host that lost a GPU in the last week
  baremetal.llm.gpu_info:
    xid_hours: 168
  become: true
  register: week
  failed_when: week.xid_errors | selectattr('xid', 'in', [48, 79, 95]) | length > 0
"""

RETURN = r"""
usable:
  description: Whether there are GPUs, and programs can use every one of them.
  type: bool
  returned: always
problem:
  description:
    - What is wrong with the GPUs or their driver and what would fix it, in one sentence.
    - V(none) where all is well, and where the host has no GPU and O(required=false).
  type: str
  returned: always
  sample: >-
    an NVIDIA GPU is at 0000:3b:00.0, but its driver is not installed; install the NVIDIA driver, then reboot.
vendor:
  description: Whose GPUs the host has, V(nvidia), V(amd), V(mixed) or V(none).
  type: str
  returned: always
source:
  description: >-
    What told about the GPUs, V(nvidia-smi), V(nvml), V(amd-smi), V(rocm-smi), two of them joined by V(+), or V(none).
  type: str
  returned: always
driver:
  description: The driver of the GPUs that RV(problem) is about, NVIDIA's where the host has both.
  type: dict
  returned: always
  contains:
    version:
      description: Version of the driver.
      type: str
      sample: 580.159.04
    cuda_version:
      description: Newest CUDA that the NVIDIA driver serves.
      type: str
      sample: "13.0"
    kernel_module:
      description: V(open) or V(proprietary), the flavour of the NVIDIA kernel module that is loaded.
      type: str
pci:
  description: GPUs on the PCI bus, by address, also those without a driver.
  type: list
  elements: dict
  returned: always
  contains:
    address:
      description: Domain, bus, device and function.
      type: str
      sample: 0000:3b:00.0
    vendor:
      description: V(nvidia) or V(amd).
      type: str
    device_id:
      description: PCI id of the device.
      type: str
      sample: "0x2330"
    device_class:
      description: PCI class without the programming interface, such as V(0x0300) or V(0x0302).
      type: str
      sample: "0x0302"
    driver:
      description: Kernel module that holds it, such as V(nvidia), V(nouveau) or V(vfio-pci), empty where none does.
      type: str
switches:
  description: NVSwitches on the PCI bus, with the keys of RV(pci). Those of the fifth NVLink generation are not there.
  type: list
  elements: dict
  returned: always
xid_errors:
  description: NVIDIA errors of the kernel log, oldest first, at most the newest 200.
  type: list
  elements: dict
  returned: always
  contains:
    time:
      description: UTC time; V(none) where the log has none.
      type: str
      sample: "2026-11-22T21:42:59Z"
    pci_bus_id:
      description: The GPU, in the form of RV(gpus[].pci_bus_id).
      type: str
    xid:
      description: Number of the error in NVIDIA's XID catalogue.
      type: int
      sample: 79
    message:
      description: The rest of the line.
      type: str
      sample: GPU has fallen off the bus.
gpus:
  description: GPUs in the order of their index, NVIDIA's first. Fields that a tool does not tell are V(none) or empty.
  type: list
  elements: dict
  returned: always
  contains:
    index:
      description: Number that the vendor's tools and C(CUDA_VISIBLE_DEVICES) with C(CUDA_DEVICE_ORDER=PCI_BUS_ID) use.
      type: int
    vendor:
      description: V(nvidia) or V(amd).
      type: str
    name:
      description: Product name.
      type: str
      sample: NVIDIA H100 80GB HBM3
    uuid:
      description: Identifier that stays the same when cards move.
      type: str
    serial:
      description: Serial number of the board.
      type: str
    pci_bus_id:
      description: PCI address in the form of C(/sys/bus/pci/devices).
      type: str
      sample: 0000:3b:00.0
    architecture:
      description: Architecture, such as V(Hopper) or V(gfx942).
      type: str
    compute_capability:
      description: CUDA compute capability; V(none) for AMD, and with drivers before 510.
      type: str
      sample: "9.0"
    memory_total_mib:
      description: Memory of the GPU, MiB.
      type: int
      sample: 81559
    memory_reserved_mib:
      description: Memory that the driver keeps, MiB.
      type: int
      sample: 480
    memory_used_mib:
      description: Memory that programs use, MiB. Old drivers and AMD count the reserved memory in.
      type: int
    memory_free_mib:
      description: Memory that is free now, MiB.
      type: int
      sample: 81079
    bar1_total_mib:
      description: Memory that the processor can map, MiB.
      type: int
    ecc:
      description: Error correction. Modes are V(Enabled) or V(Disabled).
      type: dict
      contains:
        mode_current:
          description: Mode in force.
          type: str
        mode_pending:
          description: Mode after the next reset of the GPU.
          type: str
        volatile:
          description: Errors since the driver was loaded, C(correctable) and C(uncorrectable).
          type: dict
          sample: {correctable: 0, uncorrectable: 0}
        aggregate:
          description: Errors in the life of the board, C(correctable) and C(uncorrectable).
          type: dict
          sample: {correctable: 0, uncorrectable: 0}
        remapped_rows:
          description: Rows replaced after such errors; C(pending) wants a reset of the GPU, C(failure) a new board.
          type: dict
          sample: {correctable: 0, uncorrectable: 0, pending: false, failure: false}
    mig:
      description: Multi-instance GPU. With MIG on, programs use the devices and not the GPU.
      type: dict
      contains:
        mode_current:
          description: V(Enabled), V(Disabled), or V(none) on a GPU without MIG.
          type: str
        mode_pending:
          description: Mode after the next reset of the GPU.
          type: str
        devices:
          description: MIG devices.
          type: list
          elements: dict
          contains:
            index:
              description: Number of the device on this GPU.
              type: int
            uuid:
              description: Identifier for C(CUDA_VISIBLE_DEVICES).
              type: str
            profile:
              description: Profile, such as V(3g.40gb).
              type: str
            gpu_instance_id:
              description: The GPU instance.
              type: int
            compute_instance_id:
              description: The compute instance within it.
              type: int
            memory_total_mib:
              description: Memory of the device, MiB.
              type: int
            memory_free_mib:
              description: Memory that is free now, MiB.
              type: int
    pcie:
      description: Generation and lanes of the PCIe link; the current ones fall while the GPU idles.
      type: dict
      sample: {generation_current: 5, generation_max: 5, width_current: 16, width_max: 16}
    nvlink:
      description: Number of active NVLinks, and GB/s of the slowest of them in one direction.
      type: dict
      sample: {links: 18, link_gb_s: 26.562}
    topology:
      description: Paths to the other parts of the host.
      type: dict
      contains:
        links:
          description: >-
            Index of each other GPU (as text) to the path, V(NV18) (18 NVLinks), V(PIX), V(PXB), V(PHB), V(NODE) or
            V(SYS).
          type: dict
          sample: {"1": NV18}
        nics:
          description: Network device to the path.
          type: dict
          sample: {mlx5_0: PIX}
        cpu_affinity:
          description: Processors near this GPU.
          type: str
          sample: 0-31
        numa_node:
          description: NUMA node near this GPU.
          type: int
    power:
      description: Limit in force, limit of the factory, and draw now, in watts.
      type: dict
      sample: {limit_w: 700.0, default_limit_w: 700.0, draw_w: 69.47}
    clocks:
      description: Clocks now and at most, MHz.
      type: dict
      sample:
        graphics_mhz: 375
        sm_mhz: 375
        memory_mhz: 2619
        graphics_max_mhz: 1980
        sm_max_mhz: 1980
        memory_max_mhz: 2619
    temperature_c:
      description: Temperature of the chip, degrees Celsius.
      type: int
    memory_temperature_c:
      description: Temperature of the memory, degrees Celsius.
      type: int
    throttle_reasons:
      description: >-
        Why the clocks are below their maximum now, such as V(gpu_idle), V(sw_power_cap) or V(hw_thermal_slowdown).
      type: list
      elements: str
    persistence_mode:
      description: V(Enabled) or V(Disabled).
      type: str
    compute_mode:
      description: V(Default), V(Exclusive_Process) or V(Prohibited).
      type: str
    performance_state:
      description: V(P0) (fastest) to V(P15).
      type: str
    fabric:
      description: What the NVSwitch fabric reached, C(state) and C(status), both V(none) on hosts without NVSwitches.
      type: dict
      sample: {state: Completed, status: Success}
    gsp_firmware_version:
      description: Version of the firmware of the GPU's system processor.
      type: str
    vbios:
      description: Version of the video BIOS.
      type: str
    processes:
      description: Programs with memory on the GPU, with C(pid), C(name) and C(used_mib). A container may show none.
      type: list
      elements: dict
      sample: [{pid: 4211, name: /usr/bin/ollama, used_mib: 14250}]
    problem:
      description: Why programs cannot use this GPU now, in one sentence, or V(none).
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.llm.plugins.module_utils import gpu_probe, host_probe

NO_GPU = "no NVIDIA or AMD GPU on the PCI bus; put the host into a group without GPUs, or check the card and its slot."


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "required": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 30},
            "xid_hours": {"type": "int", "default": 24},
            "nvidia_smi": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] < 1:
        module.fail_json(msg=f"timeout is {module.params['timeout']}; give at least 1 second.")
    if module.params["xid_hours"] < 0:
        module.fail_json(msg=f"xid_hours is {module.params['xid_hours']}; give hours back from now, or 0 for all.")
    options = gpu_probe.Options(
        timeout_s=module.params["timeout"],
        xid_hours=module.params["xid_hours"],
        nvidia_smi=module.params["nvidia_smi"] or "",
    )
    try:
        probe, warnings = gpu_probe.probe(options)
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    for warning in warnings:
        module.warn(warning)
    facts = host_probe.to_facts(vars(probe))
    if module.params["required"] and not probe.usable:
        facts["problem"] = probe.problem or NO_GPU
        module.fail_json(msg=facts["problem"], changed=False, **facts)
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
