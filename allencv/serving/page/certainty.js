const MOST_NAMED = 3; // labels of a set in a title

export const UNKNOWN = "Unknown";
export const NOT_ANSWERED = "Ask a person";

/** Return a share such as 0.95 as "95%". */
export function share(number) {
  return `${Number((100 * number).toPrecision(4))}%`;
}

/** Return the labels that a prediction gives, whether the model gives one or any number. */
export function givenLabels(prediction) {
  return prediction.label === undefined ? prediction.labels : [prediction.label];
}

/** Return names as "cat, dog or lynx". */
function listed(names, word) {
  const shown = names.slice(0, MOST_NAMED);
  if (names.length > shown.length) shown.push(`${names.length - shown.length} more`);
  return shown.length === 1 ? shown[0] : `${shown.slice(0, -1).join(", ")} ${word} ${shown.at(-1)}`;
}

/**
 * Return how a calibrated model's answer is shown: a title in place of the label, or "", whether it warns, and
 * the reason.
 */
export function verdict(prediction, certainty) {
  const likely = `Most likely: ${listed(givenLabels(prediction), "and") || "no label"}.`;
  if (prediction.is_unknown) {
    return { title: UNKNOWN, isWarning: true, why: `The image is unlike the training images. ${likely}` };
  }
  if (prediction.is_answered === false) {
    const { least_confidence, target_accuracy } = certainty.answered;
    return {
      title: NOT_ANSWERED,
      isWarning: true,
      why: `${likely} The confidence is below ${share(least_confidence)}; from there on, ` +
        `${share(target_accuracy)} of the answers are right.`,
    };
  }
  const given = givenLabels(prediction);
  if (prediction.label !== undefined && prediction.labels?.length > 1) {
    const why = `The right label is in such a set for ${share(certainty.sets.level)} of the images.`;
    return { title: listed(prediction.labels, "or"), isWarning: false, why };
  }
  const others = prediction.possible_labels?.filter((label) => !given.includes(label)) || [];
  const why = others.length
    ? `Also possible: ${listed(others, "and")}. With these, ${share(certainty.sets.level)} of the labels of an ` +
      "image are found, on average."
    : "";
  return { title: "", isWarning: false, why };
}

/** Return the cells of a table for what a calibrated model decides about an image. */
export function decisions(prediction) {
  const cells = {};
  if (prediction.label !== undefined && prediction.labels) cells.labels = prediction.labels.join("|");
  if (prediction.possible_labels) cells.possible_labels = prediction.possible_labels.join("|");
  for (const key of ["is_unknown", "is_answered"]) {
    if (prediction[key] !== undefined) cells[key] = String(prediction[key]);
  }
  return cells;
}
