"""What `docs/benchmarks.md` is made of: every part with the command that prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One command and what is said about it.

    Attributes:
        name: of the part, for `make benchmark PARTS=…`, and of its kept output.
        heading: in the report.
        command: run from the folder of the repository; arguments that matter are spelled out.
        shows: what its figures tell.
        minutes: roughly, on two cores; told in `list` until the part was run.
        aim: what the figures should reach, where that was said somewhere.
        published: a figure of others to hold it against, with its source.
    """

    name: str
    heading: str
    command: str
    shows: str
    minutes: int
    aim: str = ""
    published: str = ""


BENCHMARK = ".venv/bin/nas benchmark"
SCRIPT = ".venv/bin/python tests/benchmarks/"
UNTIL_BEST = (
    "--target best --seeds 20 --budget 150 --strategies "
    "predictor-guided,local-search,optuna-tpe,regularized-evolution,nsga2,random"
)
CONTENDERS = "--strategies predictor-guided,regularized-evolution,random"

SEARCHING = (
    Part(
        "nasbench201",
        "Queries until the best cell of NAS-Bench-201: CIFAR-10",
        f"{BENCHMARK} --space nasbench201 --objective cifar10_test_accuracy {UNTIL_BEST}",
        "How many of 15,625 cells each strategy asks for until it has the one of the highest mean "
        "test accuracy, and how near it comes.",
        20,
        aim="25 queries or fewer in the median",
    ),
    Part(
        "nasbench201-cifar100",
        "Queries until the best cell of NAS-Bench-201: CIFAR-100",
        f"{BENCHMARK} --space nasbench201 --objective cifar100_test_accuracy {UNTIL_BEST}",
        "The same on another data set.",
        20,
        aim="25 queries or fewer in the median",
    ),
    Part(
        "nasbench101",
        "Queries until the best cell of NAS-Bench-101",
        f"{BENCHMARK} --space nasbench101 --objective cifar10_test_accuracy --target best "
        f"--seeds 5 --budget 1000 --strategy-option predictor-guided.refit=20 {CONTENDERS}",
        "The same among 423,624 cells, in batches of 20.",
        60,
        aim="under 1,000 queries in the median",
    ),
    Part(
        "fronts",
        "Accuracy against latency on ten devices",
        f"{SCRIPT}fronts.py --seeds 5",
        "The share of the true front's hypervolume that each strategy reaches on NAS-Bench-201.",
        50,
        aim="the best other's share after 250 queries in 100 or fewer",
    ),
    Part(
        "micro",
        "Accuracy against bytes on the table of our own",
        f"{BENCHMARK} --space table:tests/data/micro_digits.npz --objective accuracy "
        f"--objective weight_bytes:min --seeds 20 --budget 60 "
        "--strategies predictor-guided,nsga2,optuna-tpe,regularized-evolution,random",
        "The same on all 320 networks of a small joint space of architecture, pruning and bits, "
        "trained on digits (`nas micro-benchmark`).",
        8,
    ),
    Part(
        "predictors",
        "How well predictors rank",
        f"{SCRIPT}predictor_tau.py --draws 10",
        "Kendall's tau of every predictor over 1,000 candidates it has not seen, learned from 20, "
        "50, 100 and 200, and seconds of a fit on one thread.",
        15,
    ),
    Part(
        "asking",
        "What an ask costs",
        f"{SCRIPT}asking.py --repeats 3 --pool 100000",
        "Processor seconds to refit on 1,000 trials and ask once over 100,000 fresh candidates, "
        "and to replay long histories.",
        3,
        aim="an ask over 100,000 candidates under a second, a replay of 10,000 trials under two",
    ),
    Part(
        "digits",
        "Strategies on really trained networks",
        f"{SCRIPT}strategies.py --seeds 5 --trials 30",
        "Hypervolume of accuracy and weight bytes at equal numbers of candidates trained on "
        "digits, beside one network made by hand in three precisions.",
        30,
    ),
    Part(
        "joint-bytes",
        "One joint search against a pipeline: bytes",
        f"{SCRIPT}joint.py --seeds 5 --scores 300 --cost bytes",
        "Whether searching architecture, pruning and bits at once gives a better front than one "
        "after the other, at the same number of candidates scored by the same supernet.",
        40,
        aim="a larger hypervolume than the pipeline's",
    ),
    Part(
        "joint-latency",
        "One joint search against a pipeline: latency",
        f"{SCRIPT}joint.py --seeds 5 --scores 300 --cost latency",
        "The same with the latency on the BitFusion accelerator as the cost.",
        40,
        published="+2.3 points at equal latency, half the latency at equal accuracy: APQ (Wang et "
        "al. 2020), on ImageNet",
    ),
)

LEARNED = (
    Part(
        "supernet",
        "Do shared weights rank as training does?",
        f"{SCRIPT}supernet.py --seeds 5 --truths 3",
        "Kendall's tau between scores by shared weights and stand-alone trainings of 40 "
        "candidates, for three recipes of equal work.",
        120,
        aim="0.7 and more, and better than uniform sampling in 4 of 5 seeds",
    ),
    Part(
        "elastic-bits",
        "One network with elastic bits",
        f"{SCRIPT}elastic_bits.py --seeds 5",
        "Accuracy of one set of weights at 2 to 8 bits, beside networks trained for their bits "
        "alone.",
        30,
        aim="1 point below those trained alone in the mean, at 4 bits and more",
    ),
    Part(
        "transfer",
        "Predictors taught by float scores",
        f"{SCRIPT}transfer.py --seeds 4",
        "Kendall's tau for quantized candidates, of predictors transferred from scores of float "
        "ones and of predictors learned from scratch.",
        20,
        aim="0.05 more than from scratch at 20 to 50 quantized scores",
    ),
    Part(
        "differentiable",
        "Differentiable search on cells",
        f"{SCRIPT}differentiable.py --seeds 5",
        "What every switch of differentiable search derives on NAS-Bench-201's cell, beside "
        "random search of the same processor time.",
        300,
        aim="the default never collapses in 5 seeds and beats random search at equal cost",
        published="plain DARTS 54 %, random search 93.7 % on CIFAR-10: NAS-Bench-201 (Dong "
        "and Yang 2020)",
    ),
    Part(
        "differentiable-joint",
        "Differentiable search of the joint space",
        f"{SCRIPT}differentiable_joint.py --seeds 3 --seconds 60",
        "Hypervolume on digits at equal processor time, beside other strategies.",
        20,
    ),
    Part(
        "differentiable-compression",
        "Searching compressed networks",
        f"{SCRIPT}differentiable_compression.py --seeds 3",
        "Accuracy after compressing the cells of a search that knew of sparsity or bits, of one "
        "that did not, and of random ones.",
        60,
        aim="1 point more at 95 % sparsity than by pruning what a dense search found",
    ),
)

DEVICES = (
    Part(
        "latency-predictors",
        "Latency on a new device",
        f"{SCRIPT}latency_predictors.py --seeds 3",
        "Rank correlation and share within 10 % on each of ten devices of NAS-Bench-201, from 10 "
        "to 200 measurements there, with the nine others known or not.",
        30,
        published="a rank correlation of about 0.98 with 10 measurements, nine devices known: HELP "
        "(Lee et al. 2021)",
    ),
    Part(
        "latency-here",
        "Latency on this processor",
        f"{SCRIPT}latency_here.py --fresh 120",
        "The same for the mobilenet-like space here: by the table of layers, and by a few "
        "measurements with and without it.",
        10,
    ),
    Part(
        "memory-mobilenet",
        "Peak memory on this processor: mobilenet-like networks",
        f"{SCRIPT}memory_here.py --space mobilenet --fresh 120",
        "Rank correlation and error of peak memory predicted from 10 to 50 measurements.",
        10,
    ),
    Part(
        "memory-cells",
        "Peak memory on this processor: cells",
        f"{SCRIPT}memory_here.py --space cells --fresh 120",
        "The same for networks of cells.",
        10,
    ),
    Part(
        "bitfusion",
        "The model of the BitFusion accelerator",
        f"{SCRIPT}bitfusion.py",
        "How far the latency used in the joint search is from the simulator's, layer by layer.",
        1,
    ),
    Part(
        "repeatability",
        "How well a latency repeats",
        f"{SCRIPT}repeatability.py --repeats 10",
        "Coefficient of variation of a measured latency, ours and naive loops, on the machine as "
        "it is and beside a process that keeps the other core busy.",
        5,
        aim="a coefficient of variation of 3 %, idle and beside a busy core",
    ),
    Part(
        "int8",
        "One network in float32, int8 and 4 bits",
        f"{SCRIPT}int8.py --data digits",
        "Accuracy, latency and size of the exported files, timed in turn.",
        5,
    ),
    Part(
        "executorch",
        "ExecuTorch beside ONNX Runtime",
        f"{SCRIPT}pte.py --data digits",
        "Whether an exported program says what the ONNX file says, in which precision its kernels "
        "run, and how fast. Needs the extra `executorch`.",
        15,
    ),
)

SERVICE = (
    Part(
        "storing",
        "The store",
        f"{SCRIPT}service.py store --trials 500 --repeats 5 --writers 8",
        "Trials written and read per second, beside Optuna's RDBStorage on the same databases.",
        8,
    ),
    Part(
        "overhead",
        "What a trial costs when its evaluation does nothing",
        f"{SCRIPT}overhead.py --trials 300 --repeats 5",
        "Milliseconds per trial beside Optuna and, where it is installed, Ray Tune.",
        3,
    ),
    Part(
        "throughput",
        "Candidates per second",
        f"{SCRIPT}throughput.py --rows 100000 --repeats 7",
        "Rows sampled, made canonical, keyed, costed and predicted per second on one core.",
        2,
    ),
    Part(
        "service-throughput",
        "Trials per second through the whole service",
        f"{SCRIPT}service.py throughput --trials 400 --jobs 1 4 16",
        "Drivers, Ray tasks and the database at once, with evaluations that do nothing.",
        10,
    ),
    Part(
        "service-latency",
        "How soon the service answers",
        f"{SCRIPT}service.py latency --clients 0 100",
        "Milliseconds of requests and of live events, alone and with 100 clients that stream them.",
        8,
    ),
    Part(
        "service-resume",
        "Resuming a long job",
        f"{SCRIPT}service.py resume --trials 100000",
        "Seconds and memory until a job with 100,000 finished trials starts its next one.",
        8,
    ),
    Part(
        "first-trial",
        "From submitting to the first trial",
        f"{SCRIPT}service.py first-trial --repeats 3",
        "Seconds until a submitted job's first trial starts and completes, in processes and on "
        "Ray.",
        5,
    ),
    Part(
        "scale",
        "A job of a million trials",
        f"{SCRIPT}service.py scale --trials 1000000",
        "Seconds and memory of a server that is asked about a job of a million trials.",
        60,
    ),
    Part(
        "pages",
        "The dashboard",
        f"{SCRIPT}pages.py --trials 100 10000 100000",
        "First load, milliseconds until pages show what they are for, and interactions, in a "
        "headless Chromium.",
        15,
    ),
    Part(
        "faults",
        "Faults",
        f"{SCRIPT}faults.py",
        "Every fault below is caused by the test beside it, which then checks what must hold. Some "
        "need root (namespaces, a small disk), PostgreSQL or Ray; what was skipped is said.",
        20,
    ),
)

CHAPTERS: Mapping[str, Sequence[Part]] = {
    "Searching": SEARCHING,
    "Shared weights and learned distributions": LEARNED,
    "Devices and files": DEVICES,
    "The service": SERVICE,
}
PARTS = {part.name: part for parts in CHAPTERS.values() for part in parts}

MODULES = {
    "parts.py": "this list",
    "report.py": "runs the parts and writes the report",
    "fabricated.py": "databases and jobs that nobody had to run",
    "storing.py": "what `service.py store` does",
}
"""Files beside the scripts that are no part by themselves."""
