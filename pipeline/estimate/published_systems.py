"""Published systems with their shapes and budgets, to plan what training them would take."""

from __future__ import annotations

from dataclasses import dataclass

from training.cost.transformer import BiLSTM, Network, Transformer


@dataclass(frozen=True)
class System:
    """One published system. `phases` are (tokens of a row, tokens trained on in such rows), of the input."""

    name: str
    title: str
    network: Network
    phases: tuple[tuple[int, float], ...]
    corpus: float  # tokens that are different: the others are later passes
    published: float  # parameters, as its authors count them
    sources: tuple[str, ...]
    predicted: float = 1.0  # targets per token of the input
    token_bytes: int = 2  # of a shard's columns
    recipe: str | None = None  # what trains it here; None: this version lacks its objective
    lacks: str = ""

    @property
    def tokens(self) -> float:
        return sum(tokens for _, tokens in self.phases)

    @property
    def length(self) -> int:
        return max(length for length, _ in self.phases)

    def flops(self) -> float:
        """Operations of the whole training, without recomputation."""
        return sum(3 * tokens * self.network.forward_flops(length, self.predicted) for length, tokens in self.phases)


NOT_TOLD = "budget not published: 20 tokens a parameter (Hoffmann et al. 2022, arXiv:2203.15556)"

SYSTEMS = {
    system.name: system
    for system in (
        System(
            "elmo-94m",
            "ELMo: two directions of LSTMs over characters",
            BiLSTM(
                layers=2,
                cells=4096,
                projection=512,
                filters=((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024)),
                highways=2,
                characters=262,
                character_size=16,
                word_length=50,
                sampled=8192,
            ),
            ((20, 7.68e9),),
            corpus=0.768e9,
            published=93.6e6,
            sources=(
                "Peters et al. 2018, arXiv:1802.05365, section 3.2; settings of github.com/allenai/bilm-tf",
                "10 epochs of the 1B Word Benchmark (Chelba et al. 2013, arXiv:1312.3005)",
            ),
            token_bytes=4,  # 793,471 words
            lacks="recurrent networks and a bidirectional language model's objective",
        ),
        System(
            "bert-340m",
            "BERT-large: masked tokens and next sentences",
            Transformer(24, 1024, 16, 4096, 30_522, positions=512, types=2, masked_lm=True),
            ((128, 256 * 128 * 900_000.0), (512, 256 * 512 * 100_000.0)),
            corpus=3.3e9,
            published=340e6,
            sources=("Devlin et al. 2018, arXiv:1810.04805, section 3 and appendix A.2: 1M steps of 256 rows",),
            predicted=0.15,
            token_bytes=3,  # with its segment
            recipe="bert --scale large",
        ),
        System(
            "gpt2-1.5b",
            "GPT-2, the largest",
            Transformer(48, 1600, 25, 6400, 50_257, positions=1024),
            ((1024, 20 * 1.5576e9),),
            corpus=9e9,
            published=1.542e9,
            sources=("Radford et al. 2019, table 2; WebText, 40 GB of text: about 9 B tokens", NOT_TOLD),
            recipe="gpt --scale large",
        ),
        System(
            "megatron-8b",
            "Megatron-LM's GPT-2 of 8.3 B",
            Transformer(72, 3072, 24, 12_288, 51_200, positions=1024),
            ((1024, 300_000 * 512 * 1024.0),),
            corpus=43e9,
            published=8.3e9,
            sources=("Shoeybi et al. 2019, arXiv:1909.08053, table 2 and section 4.2: 300k steps of 512 rows; 174 GB",),
            recipe="gpt --scale large",
        ),
        System(
            "t5-11b",
            "T5, the largest",
            Transformer(24, 1024, 128, 65_536, 32_128, head_size=128, decoder_layers=24, biases=False),
            ((512, 2.0**11 * 512 * 1e6),),
            corpus=2.0**40 / 7,
            published=11e9,
            sources=("Raffel et al. 2019, arXiv:1910.10683, sections 3.1.2 and 3.7: 1M steps of 2¹¹ rows; C4, 745 GB",),
            predicted=114 / 512,
            recipe="t5 --scale large",
        ),
        System(
            "turing-nlg-17b",
            "Turing-NLG",
            Transformer(78, 4256, 28, 4 * 4256, 50_257, positions=1024),
            ((1024, 300_000 * 512 * 1024.0),),
            corpus=43e9,
            published=17e9,
            sources=("Rosset 2020, Microsoft Research blog: 300k steps of 512 rows, Megatron-LM's data",),
            recipe="gpt --scale large",
        ),
        System(
            "gpt3-175b",
            "GPT-3, the largest",
            Transformer(96, 12_288, 96, 4 * 12_288, 50_257, positions=2048),
            ((2048, 300e9),),
            corpus=238e9,
            published=175e9,
            sources=("Brown et al. 2020, arXiv:2005.14165, tables 2.1, 2.2 and D.1",),
            recipe="gpt --scale large",
        ),
        System(
            "switch-1.6t",
            "Switch-C: a mixture of 2,048 experts in each layer",
            Transformer(15, 2080, 32, 6144, 32_128, head_size=64, decoder_layers=15, experts=2048, biases=False),
            ((512, 2.0**20 * 500_000),),
            corpus=2.0**40 / 7,
            published=1571e9,
            sources=(
                "Fedus et al. 2021, arXiv:2101.03961, table 9: 500k steps of 2²⁰ tokens of C4",
                "days leave out what workers send each other for the experts",
            ),
            predicted=114 / 512,
            lacks="experts",
        ),
    )
}
