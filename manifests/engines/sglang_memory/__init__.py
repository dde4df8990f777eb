"""SGLang's memory arithmetic; ``model.SglangMemory`` is its :class:`~wideloop.manifests.memory.MemoryModel`."""
