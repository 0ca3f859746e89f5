"""Every key, with its default, its unit and what it means. Experiments start from here and change one idea.

Override any of them on the command line: `python launch.py train --config=FILE --config.optim.learning_rate=3e-4`.
"""

from ml_collections import ConfigDict


# fmt: off
def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "base"                      # what tables and figures call this experiment
    config.seed = 0                           # initial weights, order of the examples, augmentation, dropout
    config.code_folders = ()                  # where modules of yours are that keys name as package.module:function
                                              # (docs/extending.md); those found are recorded here

    data = config.data = ConfigDict()
    data.source = "csv"                       # csv | folder | tfds | synthetic; or package.module:function of yours
    data.root = ""                            # folder of the data set, or an archive of it (zip, tar, tar.gz …), or the
                                              # https address of one; tfds: empty means the user cache
    data.sha256 = ""                          # of the archive, 64 hex digits, which is checked; empty: not checked
    data.copies = ""                          # folder of `augment-preview --save`, whose images train too; empty: none
    data.exclude = ""                         # list of images to leave out, a name per line (`eda` writes one to edit)
    data.csv = ""                             # csv: file below root; empty: the only .csv in root
    data.separator = ""                       # csv: , ; | or a tab; empty: the one that its first line has most
    data.image_dir = ""                       # csv: folder of the images below root; empty: searched for below root
    data.filename_column = "filename"         # csv: name of the image, with or without its extension
    data.label_column = "label"               # csv: class; an empty cell is a row to predict
    data.group_column = ""                    # csv: person (animal, site, device) that must not be split; empty: none
    data.group_pattern = ""                   # or a regular expression whose (…) finds the person in the filename
    data.classes = ()                         # labels in class order, cats,dogs; empty: the distinct values, sorted
    data.merge = ()                           # classes put together: (("vehicle", ("ship", "truck")), ("animal", …))
    data.class_names = ()                     # how figures call the classes; empty: like data.classes
    data.missing = ("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "None", "NULL", "null")
                                              # csv: what stands for an empty cell, to the letter, unless data.classes
                                              # names it as a class
    data.max_file_mb = 1000.0                 # larger files are not read, in 10**6 bytes: images go to quarantine
    data.tfds_name = ""                       # tfds: name of the set, e.g. horses_or_humans
    data.image_size = (120, 80)               # (height, width) in pixels that images are resized to
    data.channels = 1                         # 1 grey, 3 RGB
    data.memory_gb = 0.0                      # more decoded images than this stream from disk; 0: what the device has
    data.interpolation = "bicubic"            # nearest | bilinear | bicubic | lanczos, anti-aliased as Pillow does it
    data.resize = "stretch"                   # stretch (aspect ratio ignored) | pad (kept, the rest filled)
    data.pad_value = 255                      # pad: grey level of what is filled, 0 to 255; 255 is the white of paper
    data.crop = "none"                        # none | foreground | centre: to what differs from the background, such as
                                              # paper, or to the middle, 0.65 of each side
    data.equalise = "none"                    # none | histogram | clahe (part by part): brightness over all levels
    data.keep = "all"                         # all | size | outline | texture | frame | inverted | background |
                                              # centre | grey | low_pass | high_pass | mirrored | scale_90 |
                                              # scale_95 | scale_105 | scale_110; for shortcut tests one thing alone
                                              # of every image (docs/robustness.md)
    data.near_duplicates = 0.99               # correlation of thumbnails that makes two images copies, which stay
                                              # together when splitting; 0: only identical pixels do
    data.mean = (0.5,)                        # subtracted from intensities in [0, 1], by colour or one for all …
    data.std = (0.5,)                         # … which are then divided by this; published weights bring their own

    synthetic = data.synthetic = ConfigDict()  # read only where data.source = "synthetic"
    synthetic.num_images = 2628               # prints to draw, two per person
    synthetic.image_size = (619, 403)         # (height, width) in pixels; the competition's is (1238, 806)
    synthetic.seed = 0                        # of the drawing; training has its own

    split = config.split = ConfigDict()
    split.seed = 0                            # of the assignment of people to splits
    split.validation_fraction = 0.2           # share of the labelled images that the result is reported on
    split.num_folds = 0                       # 0: one hold-out; k: k folds of which split.fold validates
    split.fold = 0                            # which of the folds validates
    split.train_share = 1.0                   # share of the people who train, in (0, 1]; others are left out: for
                                              # learning curves (`launch.py learning-curve`)
    split.grouped = True                      # keep a person's images together; False leaks, and says so
    split.selection = "inner"                 # where the best epoch is chosen: inner (part of train) | validation
    split.selection_fraction = 0.15           # inner: share of the training images set aside for that choice

    augment = config.augment = ConfigDict()
    augment.flip_probability = 0.5            # horizontal flip
    augment.flip_alternates = False           # instead: every image is mirrored in every other epoch
    augment.vertical_flip_probability = 0.0   # vertical flip, drawn independently
    augment.brightness = 0.2                  # factor drawn from [1 - x, 1 + x]; 0 turns it off
    augment.contrast = 0.2                    # likewise, about the image's mean grey
    augment.brightness_shift = 0.0            # Keras RandomBrightness: a number from +-x is added; black 0, white 1
    augment.saturation = 0.0                  # RGB only: factor drawn from [1 - x, 1 + x]
    augment.hue = 0.0                         # RGB only: turn of the colour circle drawn from +-x, at most 0.5
    augment.channel_shift = 0.0               # a number from +-x is added to every channel, each its own
    augment.sharpness = 0.0                   # factor drawn from [1 - x, 1 + x]; below 1 smoothes
    augment.blur_sigma_px = 0.0               # Gaussian blur, standard deviation drawn from [0, x]
    augment.policy_operations = 0             # RandAugment: so many operations for each image; 0 turns it off
    augment.policy_magnitude = 9.0            # RandAugment: strength of all of them, at most 10
    augment.policy_names = ()                 # RandAugment: which may be drawn; empty: all that the channels allow
    augment.max_rotation_deg = 0.0            # angle drawn from +-x; nearest neighbour; Keras RandomRotation(x / 360)
    augment.translation = (0.0, 0.0)          # Keras RandomTranslation: (height, width), shares from +-x
    augment.shear = (0.0, 0.0)                # Keras RandomShear: (y_factor, x_factor), from +-x
    augment.zoom = (0.0,)                     # Keras RandomZoom: (x,) one factor for both sides, (x, y) each its own
    augment.scale = (1.0, 1.0)                # factor about the centre, drawn between these on a log scale; (1, 1): off
    augment.perspective = 0.0                 # corners pulled inwards by up to half this share of the sides
    augment.elastic_alpha_px = 0.0            # elastic deformation: root mean square shift along an axis; 0: off
    augment.elastic_sigma_px = 8.0            # its smoothness: standard deviation of the Gaussian
    augment.fill_mode = "constant"            # what geometry finds outside: constant | reflect | nearest | wrap
    augment.interpolation = "auto"            # of geometry: auto (docs/augmentation.md) | nearest | bilinear
    augment.fill_value = 0.0                  # constant: normalised intensity that geometry brings in; 1: white
    augment.height_width = (0.0, 0.0)         # Keras 2 RandomHeight and RandomWidth, then back to size: factors 1 +- x
    augment.noise = 0.0                       # Gaussian noise: standard deviation; black 0, white 1
    augment.erasing_probability = 0.0         # random erasing, after normalising
    augment.erasing_area = (0.02, 0.33)       # erased share of the image
    augment.erasing_aspect = (0.3, 3.3)       # height / width of the erased box, drawn on a log scale
    augment.erased_value = 0.0                # normalised intensity of the erased box, and of the cutout
    augment.cutout_px = 0                     # cutout: side of a square anywhere, cut at the border; 0 turns it off
    augment.custom = ""                       # package.module:function of yours, (key, normalised image) -> image, last
    augment.class_probability = ()            # share of each class's images that are augmented; empty: all of them
    augment.fixed_views = 0                   # so many augmented views of each image, in turn, the same for all
                                              # members, those of finetune.cache_views; 0: new ones in every epoch
    augment.mixup_alpha = 0.0                 # mixup: share drawn from Beta(x, x) once per batch; 0 turns it off
    augment.cutmix_alpha = 0.0                # cutmix: likewise; with both on, half of the batches get each

    model = config.model = ConfigDict()
    model.name = "cnn"                        # one of fpclass.models.registry.ARCHITECTURES; weights bring theirs; or
                                              # package.module:function of yours
    model.variant = ""                        # whose details a backbone has; empty: those of the weights, or the usual
    model.weights = ""                        # a name of `launch.py weights list`, or a file; empty: random weights
    model.last_stage = ""                     # cuts a backbone off after this stage; empty: it is whole
    model.conv_features = (6, 16)             # cnn: channels of each convolution; blocks: of those of each block
    model.kernel_size = 5                     # cnn: side of a convolution, pixels
    model.convs_per_block = 2                 # blocks: 3x3 convolutions before each pool
    model.block_dropout_rate = 0.0            # blocks: after each pool
    model.dense_features = ()                 # width of each hidden dense layer; a backbone's own head has none
    model.dropout_rate = 0.0                  # cnn: after flattening; others: after each hidden layer
    model.batch_norm = False                  # cnn: after the ReLU of the first dense layer; blocks: before each pool
    model.head = "own"                        # own (cnn: flatten; blocks: gap) | flatten | gap (average) | moments |
                                              # probe: fitted to several stages, not trained
    model.probe_stages = ()                   # probe: the stages; empty: the ends of the last four resolutions
    model.probe_pooling = "moments"           # probe: moments | covariances (of channels two by two) | both
    model.output = "softmax"                  # softmax | sigmoid: of two classes, one output; see layers.Logits
    model.subclasses = False                  # the classes that data.merge puts together are learnt one by one
    model.squeeze_excitation = 0              # channel weights after each conv+pool; reduction ratio; 0 turns it off
    model.conv_form = "auto"                  # auto | polyphase | direct: how conv+pool is computed; same result

    model.dense_l2 = 0.0                      # L2 penalty on the kernels of hidden dense layers, added to the loss
    model.compute_dtype = "float32"           # float32 | bfloat16: what the network computes in; weights are float32

    finetune = config.finetune = ConfigDict()  # read by networks of stages: blocks and backbones
    finetune.freeze_before = ""               # stages before this one keep their weights; head: all; empty: none
    finetune.num_frozen = 0                   # the same by count: so many leading stages (layers, in VGG and AlexNet)
    finetune.unfreeze = ()                    # gradually: (("layer4", 5), …): after 5 epochs, layer4 and all behind it
    finetune.batch_norm = "auto"              # auto (frozen_stats with weights, train without) |
                                              # train (where stages learn) | train_all | frozen_stats | frozen
    finetune.from_probe = False               # with model.head=probe: fitted first, and trained from there (LP-FT)
    finetune.new_stem = False                 # the first convolution starts anew, and learns though it is frozen
    finetune.backbone_rate = 1.0              # learning rate of the last stage with weights, relative to the head's …
    finetune.rate_decay = 1.0                 # … and of every stage with weights, relative to that of the next
    finetune.cache_views = 0                  # frozen stages are computed once, for so many augmented views; 0: off
    finetune.cache_gb = 8.0                   # largest size of these features

    unlabelled = config.unlabelled = ConfigDict()  # TRANSDUCTIVE: experiments that learn from rows to predict
    unlabelled.pretrain_epochs = 0            # of pretraining without labels, on training images and rows to predict,
                                              # before training and its limits begin; a kill costs all of a member's
    unlabelled.self_training = "none"         # probe: fitted again with labels that it makes up for rows to predict …
                                              # none | images (of each) | people (of all of one's) | weighted (of
                                              # every class, by their person's probability of it)
    unlabelled.confidence = 0.9               # … where it is at least so sure, in [0, 1)

    optim = config.optim = ConfigDict()
    optim.name = "adam"                       # adam | adamw | sgd | rmsprop
    optim.learning_rate = 1e-3                # at its highest
    optim.momentum = 0.9                      # sgd, rmsprop
    optim.nesterov = False                    # sgd: look ahead along the momentum
    optim.weight_decay = 0.0                  # adamw, sgd: decoupled, on kernels alone
    optim.norm_bias_rate = 1.0                # learning rate of the biases of batch norms, relative to the others'
    optim.gradient_clip_norm = 0.0            # global norm; 0 turns it off
    optim.schedule = "constant"               # constant | cosine | linear (fall to 0) | plateau
    optim.warmup_epochs = 0.0                 # cosine, linear: linear rise from 0
    optim.plateau_factor = 0.5                # plateau: the learning rate is multiplied by this …
    optim.plateau_patience = 5                # … after so many evaluations without a better selection loss

    train = config.train = ConfigDict()
    train.batch_size = 32                     # images per optimiser step; the last batch of an epoch may be smaller
    train.num_epochs = 50                     # passes over the training images, at most
    train.label_smoothing = 0.0               # in [0, 1)
    train.class_weights = "none"              # none | balanced
    train.early_stopping = "none"             # none (keep the last epoch) | restore_best | patience (stop, restore)
    train.patience = 5                        # patience: evaluations without improvement before it stops
    train.eval_every_epochs = 5               # evaluated after epoch 1, every so many, and the last
    train.selection_metric = "accuracy"       # accuracy | loss | macro_f1: what "best" means; of equals the lower loss
    train.ema_decay = 0.0                     # moving average of the weights, evaluated and kept, per step; 0: off
    train.accumulate = 1                      # parts of a batch that go through the network one after the other
    train.remat = False                       # backbones: compute activations again instead of keeping them
    train.num_devices = 1                     # devices that share every batch; 0: all, of all processes
    train.max_minutes = 0.0                   # a training ends after so many, with its best weights until then, which
                                              # depend on the machine; a resume has as many again; 0: no limit
    train.checkpoint_seconds = 60.0           # how much work a kill can cost; 0: a checkpoint after every epoch

    predict = config.predict = ConfigDict()
    predict.flip = False                      # average over the image and its mirror image
    predict.shift_px = 0                      # average over shifts by so many pixels up, down, left and right; 0: none
    predict.averaging = "probabilities"       # probabilities | logits: over views of an image, over members
    predict.pool = "none"                     # none | mean | calibrated | submission: one answer for all images of a
                                              # person; mean of their log-probabilities, calibrated by person as well,
                                              # or so for rows to predict alone, where their people are known

    study = config.study = ConfigDict()
    study.metric = "accuracy"                 # accuracy | balanced_accuracy | macro_f1 | roc_auc | log_loss | brier |
                                              # f1 (of evaluate.positive_class); or package.module:function of yours
    study.margin = 0.02                       # smaller differences are equivalent in practice; in units of the metric
    study.calibration = "temperature"         # none | temperature | vector: of a study's ensemble, cross-fitted, and of
                                              # a run, fitted on its inner split, of a probe out of fold
    study.cost = ()                           # cost matrix ((0, 1), (5, 0)): rows true, columns decided; empty: none
    study.max_risk = 0.05                     # abstention: error rate promised among the images that are decided …
    study.risk_confidence = 0.9               # … with this probability, in (0, 1)
    study.miss_rate = 0.1                     # conformal sets: how often the true class may be missing
    study.sets = "marginal"                   # marginal (from all classes together) | class (from each class)

    hardware = config.hardware = ConfigDict()
    hardware.together = "auto"                # members of a config: auto (measured) | vmap (batched) | sequential
    hardware.memory_gb = 0.0                  # budget for members that train together; 0: what the device has

    evaluate = config.evaluate = ConfigDict()
    evaluate.num_resamples = 2000             # resamples of people behind every interval
    evaluate.positive_class = ""              # class whose precision and F1 are reported; empty: means over the
                                              # classes; study.metric = "f1": the second of two
    evaluate.prevalence = 0.0                 # share of the positive class, in (0, 1), at which PPV, NPV and net
                                              # benefit are given; 0: that of the data
    evaluate.subgroups = ()                   # columns of the CSV ("hand", "age") whose levels are judged each; of any
                                              # images also image_size (pixels), image_width, image_height, image_mode
    evaluate.confidence = 0.95                # coverage of intervals; studies err with 1 - this, family-wise

    explain = config.explain = ConfigDict()
    explain.num_images = 5                    # worst-loss validation images that are shown
    explain.stage = ""                        # stage of the model that Grad-CAM looks at; empty: the last convolution

    submit = config.submit = ConfigDict()
    submit.threshold_for = "argmax"           # submit, predict: argmax | accuracy | f1 | balanced_accuracy | cost; the
                                              # threshold is fitted like study.calibration
    submit.refit = False                      # train once more, on all labelled images, for the rows to predict
    submit.fill_unreadable = False            # give images that could not be read the majority class
    return config.lock()
