"""GPUs, drivers and NVLink: what is wrong with one node, whatever the configuration."""

from __future__ import annotations

from wideloop.manifests.failures.cause import Cause, cause

_CORDON = "Cordon the node, look at it with `nvidia-smi -q` and `dmesg | grep Xid`, and try again"

CAUSES: tuple[Cause, ...] = (
    cause(
        "node_lost",
        r"uncorrectable (?:NVLink )?(?:ECC )?error|ECC error|Cuda failure 214|double[- ]bit error|row remapp|"
        r"cudaErrorECCUncorrectable|CUDA_ERROR_ECC_UNCORRECTABLE",
        "a GPU of its node has a memory fault that cannot be corrected (ECC)",
        _CORDON,
    ),
    cause(
        "node_lost",
        r"Xid[^\d\n]{0,8}(?:\([^)]*\)[: ]*)?(?P<xid>48|62|63|64|68|69|7[4-9]|92|94|95|109|119|12\d|13[0-9]|14\d|"
        r"15\d)\b",
        "the driver reported Xid {xid}, a fault of the GPU or its links",
        _CORDON,
    ),
    cause(
        "bad_configuration",
        r"invalid device ordinal|Duplicate GPU detected",
        "it was given fewer GPUs than it has ranks, or one GPU twice",
        "Check TP and the GPUs per node of the hardware profile against what the pod or host offers",
    ),
    cause(
        "node_lost",
        r"Found no NVIDIA driver|driver initialization failed|libcuda\.so|libnvidia-ml\.so|cuInit.{0,40}fail|"
        r"fallen off the bus|GPU is lost|cudaErrorDevicesUnavailable|busy or unavailable|CUDA_ERROR_DEVICE_UNAVAILABLE|"
        r"Unable to determine the device handle|GPU requires reset|No CUDA GPUs are available|no CUDA-capable device|"
        r"cudaErrorNoDevice|CUDA_ERROR_NO_DEVICE|nvml.{0,20}(?:error|failed)|NVMLError|Driver/library version mismatch|"
        r"driver not loaded|unknown error.{0,40}cudaGetDeviceCount|CUDA unknown error",
        "its node offers no usable GPU",
        _CORDON,
    ),
    cause(
        "node_lost",
        r"(?:Error|failure) 80[0-9]\b.{0,120}not yet initialized|system not yet initialized|cudaErrorSystemNotReady|"
        r"CUDA_ERROR_SYSTEM_NOT_READY|fabric ?manager",
        "NVIDIA's fabric manager is not ready on its node",
        "Start nvidia-fabricmanager on that node in the driver's version, or restart the node; then try again",
    ),
    cause(
        "node_lost",
        r"\bNVLS\b|NVLink SHARP|transport/nvls\.cc|cuMulticast\w*|multicast.{0,60}(?:fail|error|memory)",
        "NCCL could not set up NVLink multicast (NVLS) on its node",
        "Check fabric manager and /dev/nvidia-caps on that node, or set NCCL_NVLS_ENABLE=0 for the workers",
    ),
    cause(
        "node_lost",
        r"driver version is insufficient|Cuda failure 35\b|driver on your system is too old|unsupported PTX version|"
        r"unsupported toolchain|forward compatibility was attempted|Error 80[34]\b|cudaErrorInsufficientDriver|"
        r"provided PTX was compiled with an unsupported|requires? (?:a )?(?:newer )?(?:NVIDIA )?driver",
        "the driver of its node is older than the image's CUDA",
        "Update that node's driver, or choose an image with an older CUDA (or with cuda-compat)",
    ),
    cause(
        "node_lost",
        r"access of peer GPU memory over nvlink|nvlink.{0,40}(?:error|fail|down|inactive)|"
        r"(?:peer access|P2P).{0,60}(?:not supported|failed|cannot)|IMEX.{0,60}(?:not|fail|error)|"
        r"cuMem(?:Import|Export)\w*.{0,60}(?:fail|not permitted|not supported|invalid)|"
        r"CUDA_ERROR_NVLINK_UNCORRECTABLE|cudaErrorNvlinkUncorrectable",
        "a GPU could not reach another one over NVLink",
        "Check `nvidia-smi nvlink -s` and, on GB200, that the pods share a ComputeDomain; cordon a node with a link "
        "down",
    ),
    cause(
        "bad_configuration",
        r"ptxas fatal|PTXASError|PTX codegen error|no kernel$|only \w+ GPUs? (?:is|are )?supported|"
        r"no kernel image is available|"
        r"NoKernelImageForDevice|not compiled for|unsupported (?:gpu |compute )?arch\w*|"
        r"nvcc fatal\s*: Unsupported gpu architecture|CUDA capability sm_\d+ is not compatible|"
        r"(?:requires|only supports?|is only supported on) .{0,40}(?:sm_?\d+|compute capability|Hopper|Blackwell)|"
        r"unsupported (?:device|SM) version|named symbol not found|invalid device function",
        "the image has no kernels for this kind of GPU",
        "Use an image that was built for it (its CUDA architecture list), or another attention or MoE backend",
    ),
    cause(
        "crashed",
        r"illegal memory access|misaligned address|device-side assert|illegal instruction was encountered|"
        r"cudaErrorIllegalAddress|Warp (?:Illegal|Out-of-range)|invalid program counter|"
        r"Xid[^\d\n]{0,8}(?:\([^)]*\)[: ]*)?"
        r"(?P<xid>13|31|43|45)\b",
        "a kernel accessed memory of the GPU that it may not (this is a fault of software, not a lack of memory)",
        "Look for `NVRM: Xid` in that node's `dmesg`: 13 and 31 are the engine's, others the GPU's. Try another "
        "attention or MoE backend, or another engine version",
    ),
    cause(
        "crashed",
        r"CUDNN_STATUS_(?!ALLOC)\w+|CUBLAS_STATUS_(?!ALLOC)\w+|CUDA error \S+:\d+|unspecified launch failure|"
        r"cudaErrorLaunchFailure|launch timed out|CUDA error: unknown error",
        "a kernel failed on the GPU without a reason that CUDA knows",
        "Look for `NVRM: Xid` in that node's `dmesg`, and for time-outs of DeepEP or NCCL in the log",
        weight="vague",
    ),
    cause(
        "crashed",
        r"unhandled cuda error|ncclUnhandledCudaError",
        "NCCL could not call CUDA, and the log does not say why",
        "Set NCCL_DEBUG=INFO for the workers and read the lines before it; check that node's GPUs with `nvidia-smi`",
        weight="vague",
    ),
)
