"""The host and the container: ports, shared memory, disks, files, programs."""

from __future__ import annotations

from wideloop.manifests.failures.cause import Cause, cause

CAUSES: tuple[Cause, ...] = (
    cause(
        "bad_configuration",
        r"/dev/shm|(?:insufficient|not enough|out of) shared memory|shm_open|unable to open shared memory|"
        r"torch_shm_manager|"
        r"\bBus error|\bSIGBUS\b|shared memory segment",
        "its shared memory (/dev/shm) is full or too small",
        "Raise WIDELOOP_CLUSTER__SHARED_MEMORY (it counts into the worker's memory)",
    ),
    cause(
        "bad_configuration",
        r"Address already in use|errno 98\b|EADDRINUSE|port \S{0,12} ?(?:is )?(?:already )?(?:in use|occupied|"
        r"not available)",
        "a port that it listens on is in use already",
        "Two ranks or two processes of its host were given the same port: take ports out of engine_options, leave "
        "node ports between them, or end what holds it (`ss -ltnp`)",
    ),
    cause(
        "image_unavailable",
        r"exec format error|cannot execute binary file|wrong ELF class|invalid ELF header",
        "the image was built for another processor architecture than its node's",
        "Build or name an image for that architecture (arm64 for GB200), or select other nodes",
    ),
    cause(
        "bad_configuration",
        r"^(?:ModuleNotFoundError|ImportError): (?P<what>[^\n]{0,160})|(?P<lib>DeepEP|deep_ep|nixl|flashinfer|mooncake)"
        r"\S{0,12} is not installed|detected CUDA version .{0,40}mismatches|^\S*python\S*: (?:No module named|"
        r"can't open file)|"
        r"error while loading shared libraries|cannot open shared object file|"
        r"version `\S+' not found|undefined symbol",
        "the image lacks a package or a library, or has one that does not fit: {what}",
        "Use an image that holds it: run wideep_image, whose smoke test names what is missing",
    ),
    cause(
        "bad_configuration",
        r"(?:executable file|command|bash: .{0,40}|\bsh: .{0,40}|nvcc|ninja|gcc|g\+\+|c\+\+) not found|"
        r"Could not find nvcc|"
        r"(?:ninja|JIT).{0,60}(?:build|compil\w+) (?:stopped|failed|error)|Ninja build failed|subcommand failed|"
        r"Error building extension|CUDA_HOME environment variable is not set|Failed to find C compiler|nvcc fatal",
        "a kernel could not be compiled in the image",
        "Use an image that holds the compiler (a -devel image) or the kernels of this GPU ready-made",
    ),
    cause(
        "crashed",
        r"Segmentation fault|\bSIGSEGV\b|Caught signal 11",
        "native code accessed memory that it may not",
        "Look for a stack of frames in its log: the library that is named first is at fault; try another engine "
        "version",
        weight="vague",
    ),
    cause(
        "bad_configuration",
        r"Cannot assign requested address|Errno 99\b",
        "it was told to listen on an address that its host does not have",
        "Take hosts and addresses out of engine_options, and check NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME",
    ),
    cause(
        "bad_configuration",
        r"Illegal instruction|\bSIGILL\b",
        "its node's processor lacks instructions that the image uses",
        "Select other nodes (WIDELOOP_CLUSTER__GPU_NODE_SELECTOR), or build the image for this processor",
    ),
    cause(
        "storage_unavailable",
        r"No space left on device|Errno 28\b|ENOSPC|disk quota exceeded|Errno 122\b|Disk is full",
        "a disk is full",
        "Enlarge the claim that the path in the log lies on (WIDELOOP_CLUSTER__FILES_CLAIM_SIZE, "
        "__MODEL_CLAIM_SIZE), or free space on it or on the node",
    ),
    cause(
        "storage_unavailable",
        r"(?:PermissionError|Permission denied|Errno 13\b|Read-only file system|"
        r"Errno 30\b).{0,20}[^\n]*['\"/](?P<path>/"
        r"[^'\"\s]*)|PermissionError|Read-only file system",
        "it may not write where it has to: {path}",
        "Give the claim's folder to the image's user (fsGroup, or chown once), or run the workers as its owner",
    ),
    cause(
        "storage_unavailable",
        r"Stale file handle|Errno 116\b|Input/output error|Errno 5\b|Transport endpoint is not connected|Errno 107\b|"
        r"nfs: server .{0,40}not responding|Remote I/O error|Structure needs cleaning",
        "its storage does not answer",
        "Check the storage behind the claims, and that the node can reach it",
    ),
    cause(
        "bad_configuration",
        r"Too many open files|Errno 24\b|can't start new thread|Resource temporarily unavailable|pthread_create failed|"
        r"unable to create (?:new )?(?:native )?thread|OpenBLAS blas_thread_init",
        "it reached the host's limit of files or processes",
        "Raise the limits of the container runtime (LimitNOFILE, TasksMax, pids limit)",
    ),
    cause(
        "bad_configuration",
        r"(?:Temporary failure in name resolution|Name or service not known|nodename nor servname|getaddrinfo failed|"
        r"could not resolve host|gaierror)",
        "a host name could not be resolved",
        "Check the cluster's DNS, and the names in the engine's options",
    ),
)
