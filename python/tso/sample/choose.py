"""Which backend answers for a model: a server for an endpoint, and in this process what `sample.backend` names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

from tso.config import Config
from tso.models import device_for, sampling_dtype
from tso.sample.base import Sampler
from tso.sample.client import Limits, Tell
from tso.sample.endpoint import Endpoint, endpoints
from tso.sample.openai import OpenAISampler


class Samplers:
    """The backends of a run, each made when it is first needed. `tell` is given a line where a server asks for a pause."""

    def __init__(self, config: Config, tell: Tell):
        self.config = config
        self.tell = tell

    @cached_property
    def server(self) -> OpenAISampler:
        return self.asking(endpoints(self.config.matrix.cells))

    def asking(
        self, found: Mapping[str, Endpoint], known_as: Mapping[str, str] = MappingProxyType({})
    ) -> OpenAISampler:
        """Endpoints by their paths, asked as the run's options say; `known_as` as in OpenAISampler."""
        options = self.config.server
        limits = Limits(concurrency=options.concurrency, timeout=options.timeout, retries=options.retries)
        return OpenAISampler(found, limits, known_as, self.tell)

    @cached_property
    def local(self) -> Sampler:
        """For folders. Raises MissingDependency when the backend is not installed, ConfigError for the device."""
        options = self.config.sample
        if options.backend == "vllm":
            from tso.sample.vllm import VllmSampler

            return VllmSampler(options.dtype)
        from tso.sample.transformers import TransformersSampler

        device = device_for(self.config.model.device)
        return TransformersSampler(device, sampling_dtype(options.dtype, device))
