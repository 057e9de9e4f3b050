"""What makes a network fast on a CPU, behind one call: `prepare`.

Whatever stands here earns a tenth of a step or more in `python -m benchmarks.ablation`, at 150 or 512 tokens. Elsewhere
than on a CPU it does nothing, and it changes nothing of what is computed.
"""

from dupmae.nn.cpu.attention import prepare

__all__ = ["prepare"]
