"""Ranks that do not reach each other: NCCL, NVSHMEM, DeepEP, UCX and NIXL, rendezvous."""

from __future__ import annotations

from wideloop.manifests.failures.cause import Cause, cause

_FABRIC = (
    "Check the links of the nodes (`ibstat`), that every NIC reaches every other one (`wideloop preflight --network`), "
    "and NCCL_IB_HCA and NCCL_SOCKET_IFNAME of the workers"
)

CAUSES: tuple[Cause, ...] = (
    cause(
        "bad_configuration",
        r"num_max_dispatch_tokens_per_rank|(?:DeepEP|dispatch).{0,80}tokens? \d+ (?:exceeds|is larger than|>)|"
        r"num_tokens <= num_max_dispatch|dispatch(?:ed)? tokens? .{0,60}exceed",
        "more tokens per rank than DeepEP's dispatch buffer holds",
        "Lower cuda_graph_max_bs (times draft tokens) or the concurrency, or raise deepep_dispatch_tokens",
        infeasible=True,
    ),
    cause(
        "bad_configuration",
        r"max locked memory|ulimit -l|RLIMIT_MEMLOCK|ibv_(?:reg_mr|create_cq|"
        r"create_qp)\w*.{0,80}Cannot allocate memory|"
        r"mlock.{0,40}(?:failed|Cannot allocate)",
        "RDMA may lock too little memory (ulimit -l)",
        "Set LimitMEMLOCK=infinity for the nodes' container runtime, or run the workers as root with IPC_LOCK",
    ),
    cause(
        "bad_configuration",
        r"mlx5dv_devx|devx_uar|IBGDA.{0,80}(?:fail|not|error)|ibgda\.cpp:\d+|nv_peer_mem|nvidia[-_]peermem|"
        r"neither nv_peer_mem|GPUDirect RDMA.{0,40}(?:not|disabled|fail)|cannot (?:open|access) /dev/infiniband",
        "NVSHMEM may not use the RDMA devices of its node (IBGDA)",
        "Load nvidia_peermem on the nodes and set NVreg_RegistryDwords PeerMappingOverride=1, give the workers "
        "their RDMA "
        "devices, or make them privileged; NVSHMEM_IB_ENABLE_IBGDA=0 does without it",
    ),
    cause(
        "bad_configuration",
        r"(?:Failed|Unable|cannot) to? ?open (?:IB |RDMA )?device|ibv_open_device|No available RNIC|No RDMA device",
        "it cannot open an RDMA device of its node",
        "Give the workers their RDMA devices (rdma_resource, or the provider's networks), and name those that they "
        "have in "
        "UCX_NET_DEVICES and NCCL_IB_HCA",
    ),
    cause(
        "node_lost",
        r"no active port|port .{0,30}(?:is )?(?:not active|down|inactive)|PORT_DOWN|no (?:RDMA|IB|HCA|usable) "
        r"(?:device|port)s?|no device(?:s)? (?:found|connected)|Unable to (?:find|get) .{0,30}(?:HCA|IB device)",
        "its node has no RDMA port that is up",
        "Look at the node with `ibstat`, cordon it, and check rdma_resource and NCCL_IB_HCA / NVSHMEM_HCA_LIST",
    ),
    cause(
        "bad_configuration",
        r"nvshmem.{0,200}(?:symmetric heap|cuMemCreate|cudaMalloc).{0,80}(?:fail|exceed|out of)|NVSHMEM_SYMMETRIC_SIZE",
        "NVSHMEM's symmetric heap is too small, or does not fit",
        "Raise NVSHMEM_SYMMETRIC_SIZE for the workers, or lower deepep_dispatch_tokens",
    ),
    cause(
        "bad_configuration",
        r"nvshmem.{0,200}(?:fail|non-zero status|NULL value|unable|before .{0,20}initialization)|"
        r"transport\.cpp:.{0,60}(?:init failed|unable to initialize)|Unable to initialize any transport|"
        r"detect topo failed",
        "NVSHMEM did not initialise, so DeepEP cannot start",
        "Check the RDMA devices of the pods and rdma_resource, that every NIC reaches every other one "
        "(`wideloop preflight --network`), and set NVSHMEM_DEBUG=INFO",
        weight="vague",
    ),
    cause(
        "timed_out",
        r"DeepEP.{0,80}time-?d? ?out|timeout \((?:dispatch|combine)[^)]*\)|(?:dispatch|combine) (?:CPU )?time-?out|"
        r"DeepEP (?:dispatch|combine).{0,60}timeout",
        "DeepEP waited for a rank in vain",
        "Find the rank that stopped first (its log ends earlier), and check that every NIC reaches every other one "
        "(`wideloop preflight --network`): DeepEP fails on rail-only networks",
    ),
    cause(
        "bad_configuration",
        r"(?:Assertion error \S*(?:deep_?ep|internode|intranode)\S*|(?:EP_HOST_ASSERT|"
        r"deep_ep\S*).{0,80}assert\w*(?: failed)?:?) (?P<what>[^\n]{0,160})",
        "DeepEP refused its configuration: {what}",
        "Check EP size, redundant experts, hidden size and deepep_dispatch_tokens against what this DeepEP supports",
        infeasible=True,
    ),
    cause(
        "timed_out",
        r"watchdog.{0,120}(?:time-?out|hang|timed out|expired|caught collective)|collective operation timeout|"
        r"Timeout\(ms\)=|ProcessGroupNCCL.{0,80}timed? ?out|Watchdog timeout|wait_for_.{0,30}timed out",
        "a collective operation timed out: one rank did not take part",
        "Find the rank that stopped first (its log ends earlier, or has another error), and check the network "
        "between the "
        "nodes; raise the watchdog's time where loading is slow",
    ),
    cause(
        "timed_out",
        r"connectFullMesh|Timed out waiting for (?:peer|rank|worker)|waiting for clients|clients? joined|(?:rendezvous|"
        r"init_process_group|TCPStore|DistStore\w*).{0,160}"
        r"(?:time-?d? ?out|timeout)|wait timeout after|Timed out after \d+ seconds|failed to connect to (?:TCPStore|"
        r"master)|"
        r"client socket has (?:timed out|failed to connect)",
        "ranks did not all meet: some node of the worker is not there, or cannot reach the first one",
        "Check that every pod of the worker runs, and that they may reach each other's ports (NetworkPolicy)",
    ),
    cause(
        "crashed",
        r"etcd|\bnats\b|\bNATS\b|Unable to create lease|lease .{0,40}(?:expired|not found)",
        "Dynamo's etcd or NATS did not answer",
        "Check that the pods of the platform's etcd and NATS run and are reached from this namespace; then try again",
    ),
    cause(
        "crashed",
        r"ncclRemoteError|remote process exited|Connection (?:closed|reset) by (?:remote )?peer|closed by remote|"
        r"Broken ?pipe|EOFError|peer .{0,30}(?:closed|lost|gone)|NIXL_ERR_REMOTE_DISCONNECT|RemoteDisconnect|"
        r"Socket (?:recv|send) failed|recvValue failed|EngineDeadError|Engine core (?:proc|initialization).{0,60}"
        r"(?:died|failed)|scheduler.{0,60}(?:died|dead|terminated)|Rank \d+ scheduler|child process.{0,60}(?:died|"
        r"failed)|"
        r"Initialization failed\. Please see|worker proc.{0,60}died|ChildFailedError|exited with code|SystemExit|"
        r"KeyboardInterrupt|CancelledError|ServerDisconnected|Connection refused|ConnectError|watchdog.{0,20}sigquit",
        "it lost another rank, which had ended before it",
        "Read the log of the rank that ended first",
        weight="consequence",
    ),
    cause(
        "bad_configuration",
        r"NIXL_ERR_NOT_SUPPORTED|No (?:NIXL )?backend.{0,40}(?:supports?|found|available)|nixl.{0,60}(?:ImportError|"
        r"not "
        r"installed)|UCX.{0,80}(?:no usable transports?|not available|no remote (?:ep|address)|is not supported)|"
        r"Destination is unreachable|no such device.{0,40}UCX|network device .{0,40}(?:is not available|not found)",
        "NIXL and UCX found no transport between prefill and decode",
        "Set UCX_TLS and UCX_NET_DEVICES for the workers to devices that their pods have, and check rdma_resource",
    ),
    cause(
        "crashed",
        r"NIXL_ERR|nixl\w*Error|UCX\s+(?:ERROR|FATAL)|\bucp?_\w+.{0,60}(?:fail|error)|KVTransferError|"
        r"(?:KV|transfer).{0,40}(?:transfer|engine).{0,40}(?:fail|timed out)|Decode transfer failed|"
        r"Prefill transfer failed",
        "the transfer of KV cache between prefill and decode failed",
        "Check UCX_TLS, UCX_NET_DEVICES and the RDMA devices of the pods; read the UCX lines before it",
        weight="vague",
    ),
    cause(
        "crashed",
        r"ncclSystemError|ncclInternalError|ncclInvalidUsage|NCCL (?:error|WARN).{0,160}|NCCL_ERROR|ibv_\w+ failed|"
        r"ibv_modify_qp|No route to host|Network is unreachable|Call to (?:connect|bind|recv|send).{0,60}failed|"
        r"gloo.{0,80}"
        r"(?:connect|fail|refused)|DistNetworkError|DistBackendError",
        "NCCL failed in the network or in a system call",
        _FABRIC,
        weight="vague",
    ),
)
