-- The run store. One file a run. A finished row is never changed or removed: it is superseded by a later row
-- (triggers hold this for all tables but `leases`). Everything of one unit is written in one transaction, together with
-- its row in `units`.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- What is finished. A stage of an iteration is one unit or several (sampling: one a batch).
CREATE TABLE units (
    iteration INTEGER NOT NULL,
    stage     TEXT NOT NULL,
    unit      INTEGER NOT NULL,
    info      TEXT NOT NULL,          -- JSON: counts, paths, hashes that the stage wants to find again
    PRIMARY KEY (iteration, stage, unit)
) STRICT;

CREATE TABLE prompts (
    prompt_id TEXT PRIMARY KEY,
    position  INTEGER NOT NULL UNIQUE, -- order in the input
    split     TEXT NOT NULL CHECK (split IN ('train', 'heldout')),
    messages  TEXT NOT NULL,           -- JSON: [{"role": ..., "content": ...}, ...]
    human     TEXT NOT NULL,           -- JSON: [text, ...]: human answers, may be empty
    tags      TEXT NOT NULL            -- JSON object: whatever else the row carried that a judge may want
) STRICT;

-- The mini-batch of prompts B_t of an iteration, in order.
CREATE TABLE batches (
    iteration INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    prompt_id TEXT NOT NULL REFERENCES prompts,
    PRIMARY KEY (iteration, position),
    UNIQUE (iteration, prompt_id)
) STRICT;

-- The model matrix as it stood in an iteration.
CREATE TABLE cells (
    iteration INTEGER NOT NULL,
    cell      TEXT NOT NULL,
    position  INTEGER NOT NULL,
    model     TEXT NOT NULL,           -- as configured: reference, policy, policy@1, a name or path, human
    path      TEXT NOT NULL,           -- what to load; empty for people
    revision  TEXT NOT NULL,           -- what it resolved to: sha256 of a checkpoint, or name@revision
    stage     TEXT NOT NULL CHECK (stage IN ('human', 'base', 'reference', 'policy', 'earlier')),
    scale     REAL,                    -- billions of parameters; null for people
    decoding  TEXT NOT NULL,           -- JSON
    prior     REAL NOT NULL,           -- configured strength (log-odds scale)
    strength  REAL NOT NULL,           -- strength used to label in this iteration
    draws     INTEGER NOT NULL,        -- answers per prompt in this iteration
    PRIMARY KEY (iteration, cell)
) STRICT;

-- The plan, laid down before sampling begins. Its draws are not rows: a plan gives prompts x cells x draws a number and
-- a batch by arithmetic (layout.rs) and a seed by a hash (seeds.rs).
CREATE TABLE plans (
    plan       INTEGER PRIMARY KEY,
    iteration  INTEGER NOT NULL,
    purpose    TEXT NOT NULL CHECK (purpose IN ('train', 'evaluate')),
    run_seed   INTEGER NOT NULL,       -- 64 bits, stored as the signed integer of the same bits
    batch_size INTEGER NOT NULL,       -- how many draws are computed together
    first_draw INTEGER NOT NULL,       -- draws are numbered over the whole run, beyond every response before
    draws      INTEGER NOT NULL,
    batches    INTEGER NOT NULL,
    UNIQUE (iteration, purpose)
) STRICT;

CREATE TABLE plan_prompts (
    plan      INTEGER NOT NULL REFERENCES plans,
    position  INTEGER NOT NULL,
    prompt_id TEXT NOT NULL REFERENCES prompts,
    PRIMARY KEY (plan, position)
) STRICT;

CREATE TABLE plan_cells (
    plan     INTEGER NOT NULL REFERENCES plans,
    position INTEGER NOT NULL,
    cell     TEXT NOT NULL,
    draws    INTEGER NOT NULL,         -- answers per prompt
    model    TEXT,                     -- neighbours of one model share batches; null shares none
    everyone INTEGER NOT NULL CHECK (everyone IN (0, 1)), -- 0: it answers the prompts in plan_answers only
    PRIMARY KEY (plan, position)
) STRICT;

CREATE TABLE plan_answers (
    plan   INTEGER NOT NULL,
    cell   INTEGER NOT NULL,           -- position in plan_cells
    prompt INTEGER NOT NULL,           -- position in plan_prompts
    PRIMARY KEY (plan, cell, prompt)
) STRICT;

-- Who is at work on which batch. The one table whose rows change and go: it tells the present, not the history.
CREATE TABLE leases (
    iteration INTEGER NOT NULL,
    purpose   TEXT NOT NULL,
    batch     INTEGER NOT NULL,
    sampler   TEXT NOT NULL,
    granted   INTEGER NOT NULL,        -- milliseconds since 1970, by the clock of the machine
    expires   INTEGER NOT NULL,
    PRIMARY KEY (iteration, purpose, batch)
) STRICT;

CREATE TABLE responses (
    response_id   INTEGER PRIMARY KEY, -- the number of its draw; of an edited text, one that no plan has given
    iteration     INTEGER NOT NULL,
    prompt_id     TEXT NOT NULL REFERENCES prompts,
    cell          TEXT NOT NULL,
    seed          INTEGER,             -- as in plans; null: text edited by a person
    text          TEXT NOT NULL,
    token_ids     BLOB NOT NULL,       -- little-endian u32, end-of-turn token included where the answer ended by itself
    tokens        INTEGER NOT NULL,
    finish_reason TEXT NOT NULL CHECK (finish_reason IN ('stop', 'length'))
) STRICT;

-- What a server answered, from the moment it came: paid for, and perhaps not yet part of a recorded batch.
CREATE TABLE arrivals (
    draw              INTEGER PRIMARY KEY, -- as response_id
    text              TEXT NOT NULL,
    finish_reason     TEXT NOT NULL CHECK (finish_reason IN ('stop', 'length')),
    model             TEXT,                -- as the server names it
    prompt_tokens     INTEGER,             -- as the server counts them; null where it does not tell
    completion_tokens INTEGER
) STRICT;

-- The responses that a plan asked for.
CREATE VIEW sampled AS SELECT r.*, p.purpose FROM plans AS p
    JOIN responses AS r ON r.response_id BETWEEN p.first_draw AND p.first_draw + p.draws - 1;

-- Two responses of one prompt. Which is better is told by labels.
CREATE TABLE pairs (
    pair_id    TEXT PRIMARY KEY,
    iteration  INTEGER NOT NULL,
    purpose    TEXT NOT NULL CHECK (purpose IN ('train', 'evaluate')),
    position   INTEGER NOT NULL,
    prompt_id  TEXT NOT NULL REFERENCES prompts,
    response_a INTEGER NOT NULL REFERENCES responses,
    response_b INTEGER NOT NULL REFERENCES responses,
    similarity REAL NOT NULL,          -- n-gram Jaccard of the two sides
    CHECK (response_a <> response_b)
) STRICT;

-- The whole history of a pair's labels; the row with the largest label_id is in force.
CREATE TABLE labels (
    label_id   INTEGER PRIMARY KEY,
    pair_id    TEXT NOT NULL REFERENCES pairs,
    iteration  INTEGER NOT NULL,
    source     TEXT NOT NULL,          -- prior, implicit, agreement, rule, human, ...
    chosen     INTEGER REFERENCES responses, -- null: no side is better
    rejected   INTEGER REFERENCES responses,
    confidence REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    weight     REAL NOT NULL CHECK (weight >= 0)
) STRICT;

CREATE TABLE corrections (
    correction_id INTEGER PRIMARY KEY,
    pair_id       TEXT NOT NULL REFERENCES pairs,
    iteration     INTEGER NOT NULL,
    source        TEXT NOT NULL,       -- rule, judge, human
    author        TEXT NOT NULL,       -- which rule, judge or person
    verdict       TEXT NOT NULL CHECK (verdict IN ('keep', 'flip', 'tie', 'both_bad', 'edit')),
    confidence    REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    text          TEXT,                -- edit: the new answer
    reason        TEXT NOT NULL,
    answer        TEXT CHECK (answer IN ('a', 'b')), -- the one it prefers, or edits, where it was not about a label
    verdict_id    INTEGER UNIQUE REFERENCES verdicts -- what it was made from; each is taken up once
) STRICT;

-- Which pair a person was given to judge, and which of its answers stood on the left. Given once more, it is one more
-- row.
CREATE TABLE assignments (
    assignment INTEGER PRIMARY KEY,
    pair_id    TEXT NOT NULL REFERENCES pairs,
    annotator  TEXT NOT NULL,
    round      INTEGER NOT NULL CHECK (round >= 0), -- above 0: the same person has judged it before, and is asked again
    on_left    TEXT NOT NULL CHECK (on_left IN ('a', 'b')),
    given      INTEGER NOT NULL        -- milliseconds since 1970, by the clock of the machine
) STRICT;

-- What people said, one row at the moment they say it, about the answers themselves and no label. A run takes them up
-- as corrections. One that is taken back keeps its row, and the undo is another.
CREATE TABLE verdicts (
    verdict_id INTEGER PRIMARY KEY,
    pair_id    TEXT NOT NULL REFERENCES pairs,
    annotator  TEXT NOT NULL CHECK (annotator <> ''),
    round      INTEGER NOT NULL CHECK (round >= 0),
    said       TEXT NOT NULL CHECK (said IN ('a', 'b', 'tie', 'both_bad', 'edit', 'skip', 'undo')),
    side       TEXT CHECK (side IS NULL OR (said = 'edit' AND side IN ('a', 'b'))), -- the answer that was edited
    text       TEXT CHECK ((text IS NOT NULL) = (said = 'edit')),                   -- edit: the new answer
    reason     TEXT NOT NULL,
    confidence REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    takes_back INTEGER UNIQUE REFERENCES verdicts CHECK ((takes_back IS NOT NULL) = (said = 'undo')),
    request    TEXT UNIQUE,            -- the sender's own name of it: sent twice, it is still one; null: from a file
    given      INTEGER NOT NULL        -- milliseconds since 1970; 0: the file that it came from did not tell
) STRICT;

-- Verdicts that nobody took back: at most one of a person on a pair in a round.
CREATE VIEW standing AS SELECT * FROM verdicts AS v
    WHERE said <> 'undo' AND NOT EXISTS (SELECT 1 FROM verdicts AS u WHERE u.takes_back = v.verdict_id);

-- What a judge that looks at one response at a time said.
CREATE TABLE scores (
    response_id INTEGER NOT NULL REFERENCES responses,
    judge       TEXT NOT NULL,
    score       REAL NOT NULL,
    reason      TEXT NOT NULL,
    PRIMARY KEY (response_id, judge)
) STRICT;

-- Which pairs an AI judge was to judge, in the order of their worth. With a budget they are chosen in rounds.
CREATE TABLE judge_pairs (
    iteration INTEGER NOT NULL,
    pair_id   TEXT NOT NULL REFERENCES pairs,
    judge     TEXT NOT NULL,
    revision  TEXT NOT NULL,           -- what it resolved to: the sha256 of its weights, or a server and its model
    round     INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (pair_id, judge)
) STRICT;

-- Every question to an AI judge, those too whose answer could not be read.
CREATE TABLE judge_calls (
    iteration     INTEGER NOT NULL,
    pair_id       TEXT NOT NULL REFERENCES pairs,
    judge         TEXT NOT NULL,
    shown_first   INTEGER NOT NULL REFERENCES responses, -- the response in the first place
    vote          INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    answer        TEXT NOT NULL,       -- as the judge gave it
    verdict       TEXT CHECK (verdict IN ('first', 'second', 'tie', 'both_bad')), -- null: none could be read
    reason        TEXT NOT NULL,       -- the judge's; without a verdict, why none could be read
    prompt_tokens INTEGER,             -- null: the judge's backend does not tell
    tokens        INTEGER,             -- of the answer; null as above
    PRIMARY KEY (pair_id, judge, shown_first, vote, attempt)
) STRICT;

-- Everything that left the line, and why.
CREATE TABLE drops (
    iteration INTEGER NOT NULL,
    stage     TEXT NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('response', 'pair')),
    id        TEXT NOT NULL,           -- response_id as text, or pair_id
    reason    TEXT NOT NULL,
    detail    TEXT NOT NULL,
    PRIMARY KEY (kind, id, stage, iteration)
) STRICT;

-- Cell strengths after the corrections of an iteration (Bradley-Terry, shrunk toward the prior).
CREATE TABLE strengths (
    iteration   INTEGER NOT NULL,
    cell        TEXT NOT NULL,
    prior       REAL NOT NULL,
    strength    REAL NOT NULL,
    stderr      REAL NOT NULL,
    low         REAL NOT NULL,         -- 95 % interval, by bootstrap over prompts
    high        REAL NOT NULL,
    comparisons INTEGER NOT NULL,
    PRIMARY KEY (iteration, cell)
) STRICT;

-- Chance that a label is wrong, where something can be said of it.
CREATE TABLE noise (
    iteration INTEGER NOT NULL,
    pair_id   TEXT NOT NULL REFERENCES pairs,
    noise     REAL NOT NULL CHECK (noise >= 0 AND noise < 0.5),
    PRIMARY KEY (iteration, pair_id)
) STRICT;

-- Log-probs of the two sides under the reference (and where known the policy), summed over response tokens, in nats.
CREATE TABLE logps (
    iteration INTEGER NOT NULL,
    pair_id   TEXT NOT NULL REFERENCES pairs,
    model     TEXT NOT NULL,           -- reference, policy
    chosen    REAL NOT NULL,
    rejected  REAL NOT NULL,
    PRIMARY KEY (iteration, pair_id, model)
) STRICT;

-- Implicit rewards of responses before they are paired: beta times policy minus reference, log-probs in nats.
CREATE TABLE rewards (
    iteration   INTEGER NOT NULL,
    response_id INTEGER NOT NULL REFERENCES responses,
    policy      REAL NOT NULL,         -- log-prob under the policy as it stands
    reference   REAL NOT NULL,         -- log-prob under the reference it was last trained against
    reward      REAL NOT NULL,
    PRIMARY KEY (iteration, response_id)
) STRICT;

-- Rewards of a trained pair when training last saw it.
CREATE TABLE outcomes (
    iteration          INTEGER NOT NULL,
    pair_id            TEXT NOT NULL REFERENCES pairs,
    chosen_reward      REAL NOT NULL,
    rejected_reward    REAL NOT NULL,
    chosen_saturated   INTEGER NOT NULL,
    rejected_saturated INTEGER NOT NULL,
    PRIMARY KEY (iteration, pair_id)
) STRICT;

CREATE TABLE checkpoints (
    iteration INTEGER NOT NULL,
    role      TEXT NOT NULL CHECK (role IN ('policy', 'reference')),
    path      TEXT NOT NULL,           -- relative to the run's folder, or a model's name
    sha256    TEXT NOT NULL,           -- of the weights
    PRIMARY KEY (iteration, role)
) STRICT;

CREATE TABLE metrics (
    iteration INTEGER NOT NULL,
    step      INTEGER NOT NULL,        -- optimiser step within the iteration; 0: a value of the iteration as a whole
    name      TEXT NOT NULL,
    value     REAL NOT NULL,
    PRIMARY KEY (iteration, step, name)
) STRICT;

CREATE INDEX labels_by_pair ON labels (pair_id);
CREATE INDEX corrections_by_pair ON corrections (pair_id);
CREATE INDEX assignments_by_pair ON assignments (pair_id);
CREATE INDEX assignments_by_annotator ON assignments (annotator);
CREATE INDEX verdicts_by_pair ON verdicts (pair_id);
CREATE INDEX verdicts_by_annotator ON verdicts (annotator);
