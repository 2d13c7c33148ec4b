"""The experiments of the four papers, see `plan`, and where their numbers are left."""

from pathlib import Path

from tools.plan import (
    Plan,
    of_compare,
    of_evaluate,
    of_fpk,
    of_share,
    of_threshold,
    of_video,
)

FOLDS = range(4)
_META_DRN = (
    ("maml", "75.17 ± 0.12", "75.19 ± 0.11"),
    ("fomaml", "68.21 ± 0.18", "68.14 ± 0.01"),
    ("meta_sgd", "75.89 ± 0.39", "76.63 ± 0.32"),
    ("reptile", "64.29 ± 0.22", "63.98 ± 0.18"),
)
"""Algorithm to the paper's mIoU at thresholds of 0.5 and 0.35."""
_PLAIN = ["--l2=0", "--augment_rate=0", "--final_dropout=0"]
"""Without what the paper calls regularization."""


def hendryx(plan: Plan) -> None:
    """Hendryx et al. 2019: tables 1 and 2, figures 2, 3 and 4."""
    data = plan.convert("fss1000", "fss1000", input_dir="FSS-1000")
    untuned = ("--splits_per_task=2", "--tuned=false")

    def trained(where, what, paper, name, flagfile, *changes):
        run = plan.train(name, flagfile, data, *changes)
        options = (f"--model={run}", *untuned)
        stage = plan.measure(name, "evaluate", *options, file="summary.json")
        plan.row(where, what, paper, stage, of_evaluate)
        return run

    ablation, fomaml = "efficientlab_ablation_", "efficientlab_fomaml_fss1000_"
    for row, what, paper, name in (
        (1, "no decoder", "75.66 ± 1.01", "no_decoder"),
        (2, "Auto-DeepLab's decoder", "73.05 ± 1.09", "auto_deeplab"),
        (3, "RSD at stage 3, no residual", "78.17 ± 1.02", "rsd3_no_residual"),
        (4, "RSD at stages 3 and 6", "80.11 ± 0.94", "rsd6_3"),
    ):
        trained(f"table 1, row {row}", what, paper, name, ablation + name)
    what = "RSD at stage 3; FOMAML, regularized"
    where = "table 1, row 5; table 2b"
    best = trained(where, what, "80.60 ± 0.93", "fomaml", fomaml + "5shot")
    what, paper = "FOMAML, 1-shot", "75.19 ± 1.28"
    trained("table 2a", what, paper, "fomaml_1shot", fomaml + "1shot")
    flagfile = "efficientlab_reptile_fss1000_5shot"
    trained("table 2b", "Reptile", "62.36 ± 2.12", "reptile", flagfile)
    what, flagfile = "FOMAML without regularization", fomaml + "5shot_noreg"
    trained("table 2b", what, "77.89 ± 1.03", "fomaml_noreg", flagfile)
    options = (f"--model={best}", *untuned, "--learning_rate=0.007475", "--steps=8")
    stage = plan.measure("fomaml_uho", "evaluate", *options, file="summary.json")
    what = "FOMAML, regularized, with the paper's values of UHO"
    plan.row("table 2b", what, "82.19 ± 0.91", stage, of_evaluate)
    what = "meta-trained with these values"
    changes = ("--inner_learning_rate=0.007475", "--inner_steps=8")
    name, flagfile = "fomaml_trained_with_uho", fomaml + "5shot"
    trained("section 5.3", what, '"nearly identical"', name, flagfile, *changes)
    options = ("--tune_split=train", "--learning_rate_range=0.0005,0.05")
    plan.measure("uho", "tune", f"--model={best}", *options, file="tuned.json")
    options = (f"--model={best}", "--splits_per_task=2")
    stage = plan.measure("fomaml_tuned", "evaluate", *options, file="summary.json")
    # It reads the values that the search before it keeps with the model.
    plan.stages[stage] = plan.stages[stage]._replace(
        needs=(*plan.stages[stage].needs, "tune_uho")
    )
    what = "with the values of our own search (figure 2: results/uho/uho.png)"
    plan.row("table 2b", what, "82.19 ± 0.91", stage, of_evaluate)
    fpk = plan.convert("fpk", "fpk", fss1000="FSS-1000", voc="VOC", sbd="SBD")
    options = (f"--model={best}", f"--dataset_dir={fpk}")
    stage = plan.measure("fpk", "fpk", *options, file="curve.png")
    for start, label, one, many in (
        ("meta", "meta-learned", "38.30", "58.68"),
        ("imagenet", "ImageNet's encoder", "16.76", "55.86"),
    ):
        for k, paper in ((1, one), (400, many)):
            what = f"FP-k, {label}, {k} examples"
            plan.row("figure 3", what, paper, stage, of_fpk(start, k))


def hendryx_small(plan: Plan) -> None:
    """Hendryx et al. 2019, tables 1 and 2 at a small setting, on icons-fss."""
    data, once = plan.inputs["icons"], ("--splits_per_task=1", "--seed=0")
    trainings = (
        ("table 1, row 1", "no decoder", "75.66", "no_decoder", ["--decoder=none"]),
        (
            *("table 1, row 2", "Auto-DeepLab's decoder", "73.05", "auto_deeplab"),
            ["--decoder=auto_deeplab"],
        ),
        (
            *("table 1, row 3", "RSD at stage 3, no residual", "78.17", "no_residual"),
            ["--residual=false"],
        ),
        (
            *("table 1, row 4", "RSD at stages 3 and 6", "80.11", "rsd6_3"),
            ["--rsd_stages=6,3"],
        ),
        (
            *("table 1, row 5; table 2b", "RSD at stage 3; FOMAML, regularized"),
            *("80.60", "fomaml", []),
        ),
        (
            *("table 2b", "Reptile without regularization", "62.36", "reptile"),
            [*_PLAIN, "--learner=reptile"],
        ),
        (
            *("table 2b", "Reptile, regularized", "", "reptile_regularized"),
            ["--learner=reptile"],
        ),
        ("table 2b", "FOMAML without regularization", "77.89", "plain", _PLAIN),
    )
    stages: dict[tuple[str, str, str], list[str]] = {}

    def trained(where, what, paper, own, seed, *changes, needs=()):
        seeded = (f"--seed={seed}", *changes)
        run = plan.train(own, "icons_hendryx", data, *seeded, needs=["icons", *needs])
        options = (f"--model={run}", "--tuned=false", *once)
        stage = plan.measure(own, "evaluate", *options, file="summary.json")
        stages.setdefault((where, what, paper), []).append(stage)
        return run

    for seed in (0, 1):
        runs = {}
        for where, what, paper, name, changes in trainings:
            own = f"{name}_seed{seed}"
            runs[name] = trained(where, what, paper, own, seed, *changes)
        own, run = f"uho_seed{seed}", runs["fomaml"]
        options = (f"--model={run}", "--tasks=20", "--rounds=1", "--samples=8")
        options += ("--max_steps=12", "--eval_queries=5")
        search = plan.measure(own, "tune", *options, file="tuned.json")
        options = (f"--model={run}", *once)
        own = f"tuned_seed{seed}"
        stage = plan.measure(own, "evaluate", *options, file="summary.json")
        # It reads the values that the search before it keeps with the model.
        needs = (*plan.stages[stage].needs, search)
        plan.stages[stage] = plan.stages[stage]._replace(needs=needs)
        row = "table 2b", "FOMAML, regularized, with UHO's values", "82.19"
        stages.setdefault(row, []).append(stage)
        values = plan.stages[search].output.with_name("tuned.flags")
        what, own = "meta-trained with UHO's values", f"trained_with_uho_seed{seed}"
        row = "section 5.3", what, '"nearly identical"', own
        trained(*row, seed, f"--flagfile={values}", needs=[search])
    for row, own in stages.items():
        plan.row(*row, own, of_evaluate)


def meta_drn(plan: Plan) -> None:
    """Banerjee 2020: table I, figures 2 and 4."""
    data = plan.convert("fss1000", "fss1000", input_dir="FSS-1000")
    for own, run in _meta_drn(plan, data, "meta_drn_{}_fss1000_1shot").items():
        plan.draw(f"activations_{own}", "activations", run, data, "--splits=fss1000")


def meta_drn_small(plan: Plan) -> None:
    """Banerjee 2020, table I at a small setting, on icons-fss."""
    _meta_drn(plan, plan.inputs["icons"], "icons_meta_drn_{}", ["icons"])


def _meta_drn(plan: Plan, data: Path, flagfile: str, needs=()) -> dict[str, Path]:
    """Adds table I, by a flagfile for each algorithm; returns the runs."""
    runs = {}
    for name, half, third in _META_DRN:
        own = f"meta_drn_{name}"
        runs[own] = plan.train(own, flagfile.format(name), data, needs=needs)
        options = (f"--model={runs[own]}", "--threshold=0.5,0.35")
        stage = plan.measure(own, "evaluate", *options, file="summary.json")
        for threshold, paper in ((0.5, half), (0.35, third)):
            what = f"{name}, threshold {threshold}"
            plan.row("table I", what, paper, stage, of_threshold(threshold))
    return runs


def oslsm(plan: Plan) -> None:
    """Shaban et al. 2017: table 1, section 7, figures 3, S4 and S5."""
    data = plan.convert("pascal5i", "pascal5i", voc="VOC", sbd="SBD")

    def compared(name, fold, methods):
        options = (f"--dataset_dir={data}", f"--folds={fold}", "--shots=1,5")
        options += ("--eval_size=512", f"--methods={methods}")
        return plan.measure(name, "compare", *options, file="table.md")

    ours, siamese, base = [], [], []
    for fold in FOLDS:
        splits, end = f"--splits=fold{fold}", f"fold{fold}"
        run = plan.train(f"oslsm_{end}", "oslsm_pascal5i", data, splits)
        ours.append(compared(f"oslsm_{end}", fold, f"oslsm={run}"))
        if not fold:
            for figure in ("conditioning", "shots"):
                plan.draw(f"{figure}_{end}", figure, run, data, splits)
        fcn = plan.train(f"fcn32s_{end}", "fcn32s_pascal5i", data, splits)
        methods = f"nearest_neighbour={fcn},logistic_regression={fcn},"
        methods += f"fine_tuning={fcn}:steps=20:adapt=decoder,cosegmentation"
        base.append(compared(f"base_{end}", fold, methods))
        changes = (splits, "--network=siamese", "--learner=siamese")
        changes += ("--conditioning_rate=1",)
        run = plan.train(f"siamese_{end}", "oslsm_pascal5i_normalised", data, *changes)
        siamese.append(compared(f"siamese_{end}", fold, f"siamese={run}"))
    for method, stages, shots, numbers in (
        ("nearest_neighbour", base, 1, (25.3, 44.9, 41.7, 18.4)),
        ("logistic_regression", base, 1, (26.9, 42.9, 37.1, 18.4)),
        ("fine_tuning", base, 1, (24.9, 38.8, 36.5, 30.1)),
        ("siamese", siamese, 1, (28.1, 39.9, 31.8, 25.8)),
        ("oslsm", ours, 1, (33.6, 55.3, 40.9, 33.5)),
        ("cosegmentation", base, 5, (25.1, 28.9, 27.7, 26.3)),
        ("nearest_neighbour", base, 5, (34.5, 53.0, 46.9, 25.6)),
        ("logistic_regression", base, 5, (35.9, 51.6, 44.5, 25.6)),
        ("oslsm", ours, 5, (35.9, 58.1, 42.7, 39.1)),
    ):
        read, what = of_compare(method, shots), f"{method}, {shots}-shot"
        for fold, stage, number in zip(FOLDS, stages, numbers, strict=True):
            plan.row("table 1", f"{what}, fold {fold}", f"{number}", stage, read)
        mean = f"{sum(numbers) / len(numbers):.1f}"
        plan.row("table 1", f"{what}, mean of folds", mean, stages, read)
    changes = ("--splits=fold0", "--dilated")
    run = plan.train("dilated_fold0", "oslsm_pascal5i", data, *changes)
    stage = compared("dilated_fold0", 0, f"dilated={run}")
    for shots, paper in ((1, "37.0"), (5, "37.43")):
        what = f"dilated, {shots}-shot, fold 0"
        plan.row("section 7", what, paper, stage, of_compare("dilated", shots))
    for classes in (1000, 771):
        source = f"alexnet_{classes}"
        weights = f"--weights={plan.inputs[source]}"
        changes = ("--splits=fold0", weights)
        flagfile = f"oslsm_alexnet{classes}_pascal5i"
        run = plan.train(source, flagfile, data, *changes, needs=[source])
        changes += ("--backbone=AlexNet",)
        name = f"logreg_{classes}"
        fcn = plan.train(name, "fcn32s_pascal5i", data, *changes, needs=[source])
        methods = f"{source}={run},logistic_regression={fcn}"
        stage = compared(f"pretraining_{classes}", 0, methods)
        for method in (source, "logistic_regression"):
            read, what = of_compare(method, 1), f"{method}, {classes} classes, fold 0"
            plan.row("figure 3", what, "a curve", stage, read)


def guided(plan: Plan) -> None:
    """Rakelly et al. 2018: sections 5.1 to 5.3, figures 5 and 6."""
    sets = {"voc": "VOC", "sbd": "SBD"}
    rakelly = "--protocol=rakelly"
    classes = plan.convert("pascal5i_guided", "pascal5i", rakelly, **sets)
    stages = []
    for fold in FOLDS:
        name = f"guided_fold{fold}"
        run = plan.train(name, "guided_pascal5i", classes, f"--splits=fold{fold}")
        options = (f"--dataset_dir={classes}", f"--folds={fold}", "--shots=1")
        options += ("--points=1,5,25,-1", "--eval_size=320", f"--methods=guided={run}")
        stages.append(plan.measure(name, "compare", *options, file="table.md"))
    for points in ("1", "5", "25", "-1"):
        what = f"classes of PASCAL-5i, {_dots(points)}, mean of folds"
        read = of_compare("guided", 1, points, "positive_iou")
        plan.row("figure 5, right", what, "a curve", stages, read)
    options = (rakelly, "--instances")
    data = plan.convert("voc_objects", "pascal5i", *options, **sets)
    run = plan.train("guided_interactive", "guided_interactive", data)
    dios = plan.train("dios", "guided_interactive", data, "--fusion=early_local")
    tested = (f"--dataset_dir={data}", "--eval_split=all_val", "--eval_size=320")
    options = (*tested, "--family=instance", "--shots=1", "--points=1,2,5,10,25")
    options += (f"--methods=guided={run},dios={dios}",)
    stage = plan.measure("interactive", "compare", *options, file="table.md")
    for method in ("guided", "dios"):
        for points in ("1", "5", "25"):
            what = f"{method}, objects, {_dots(points)}"
            read = of_compare(method, 1, points, "positive_iou")
            plan.row("figure 5, left", what, "a curve", stage, read)
    changes = ("--splits=", "--train_split=all_train")
    of_all = (*changes, "--num_classes=20")
    oracle = plan.train("oracle", "fcn32s_pascal5i", classes, *of_all)
    two = (*changes, "--labels=episode", "--num_classes=1")
    floor = plan.train("floor", "fcn32s_pascal5i", classes, *two)
    options = (*tested, "--support_split=all_train", "--shots=1,5,25,100,10000")
    options += ("--points=1",)
    options += (f"--methods=guided={run},floor={floor}:steps=0,oracle={oracle}",)
    stage = plan.measure("classes_from_objects", "compare", *options, file="table.md")
    for method in ("floor", "guided", "oracle"):
        read = of_compare(method, 1, "1", "positive_iou")
        what = f"classes guided from objects, 1 picture: {method}"
        plan.row("section 5.2", what, "a curve", stage, read)
    options = ("--transfer", "--year=2017", "--image_size=320")
    target = plan.convert("coco_transfer", "coco20i", *options, coco="COCO")
    source = plan.train("guided_source", "guided_pascal5i", classes, *changes)
    tested = ("--eval_split=all_val", "--support_split=all_train", "--eval_size=320")
    many = ("--splits_per_task=1", "--shots=1,5,25,10000")
    _many_shot(plan, target, source, floor, 1000, (*tested, *many), "1", "10000")
    frames = "--split=2017/train"
    data = plan.convert("davis_train", "davis", frames, davis="DAVIS")
    run = plan.train("guided_davis", "guided_davis", data)
    options = (f"--davis={plan.inputs['DAVIS']}", "--split=2017/val")
    options += (f"--methods=guided={run}", "--points=1,5,25,-1", "--shots=1,2,5")
    stage = plan.measure("davis", "video", *options, file="annotations.png")
    for points, paper in (("-1", "33.3"), ("5", "29.0 (87 % of it)"), ("1", "a curve")):
        label = "guided" if points == "-1" else f"guided, {points} points"
        what = f"DAVIS 2017, first frame, {_dots(points)}"
        plan.row("figure 6, left", what, paper, stage, of_video(label))


def guided_small(plan: Plan) -> None:
    """Rakelly et al. 2018, section 5.3 at a small setting: from icons to clothes."""
    icons, clothes = plan.inputs["icons"], plan.inputs["ccp"]
    small = ("--image_size=96", "--val_split=")
    changes = (*small, "--meta_steps=400")
    run = plan.train("guided", "icons_guided", icons, *changes, needs=["icons"])
    changes = (*small, "--meta_steps=200")
    plain = plan.train("joint", "icons_joint", icons, *changes, needs=["icons"])
    options = ("--eval_split=all", "--eval_queries=20", "--splits_per_task=1")
    options += ("--eval_size=96", "--shots=1,10,100", "--timed_tasks=1")
    stage = _many_shot(plan, clothes, run, plain, 50, options, "1", "10", "100")
    # A dataset that was there before, and so of no stage.
    needs = (*plan.stages[stage].needs, "ccp")
    plan.stages[stage] = plan.stages[stage]._replace(needs=needs)


def _many_shot(
    plan: Plan, data: Path, guided: Path, plain: Path, steps: int, options, *shots: str
) -> str:
    """Adds guidance beside supervised learning of the same classes from the same masks.

    Both networks learned other classes before; `plain` goes on learning by gradients,
    for each class on its own. Returns the stage's name.
    """
    methods = f"--methods=guided={guided},floor={plain}:steps=0,"
    methods += f"supervised={plain}:steps={steps}:inner_batch=8:adapt=all"
    options = (f"--dataset_dir={data}", *options, methods)
    stage = plan.measure("many_shot", "compare", *options, file="table.md")
    for number in shots:
        many = "all" if number == "10000" else number
        for method in ("floor", "guided", "supervised"):
            read = of_compare(method, int(number), measure="positive_iou")
            plan.row("section 5.3", f"{method}, {many} masks a class", "", stage, read)
        what = f"guided in percent of supervised, {many} masks a class"
        paper = "95" if number == shots[-1] else ""
        plan.row("section 5.3", what, paper, stage, of_share(int(number)))
    return stage


def _dots(points: str) -> str:
    return "dense masks" if points == "-1" else f"{points} points"


PAPERS = {
    **{"hendryx": hendryx, "hendryx_small": hendryx_small},
    **{"meta_drn": meta_drn, "meta_drn_small": meta_drn_small, "oslsm": oslsm},
    **{"guided": guided, "guided_small": guided_small},
}
