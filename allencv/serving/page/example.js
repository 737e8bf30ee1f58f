const SIDE = 360;

/** Draw a picture to try the model with: a character if the labels are characters, or a landscape. */
export function drawExample(labels) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const brush = canvas.getContext("2d");
  if (labels.every((label) => [...label].length === 1)) {
    drawCharacter(brush, labels[Math.floor(Math.random() * labels.length)]);
  } else {
    drawLandscape(brush);
  }
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(new File([blob], "drawn_example.png", { type: "image/png" })));
  });
}

function drawCharacter(brush, character) {
  brush.fillStyle = "black";
  brush.fillRect(0, 0, SIDE, SIDE);
  brush.fillStyle = "white";
  brush.font = `bold ${SIDE}px sans-serif`;
  const size = brush.measureText(character);
  const height = size.actualBoundingBoxAscent + size.actualBoundingBoxDescent;
  brush.textAlign = "center";
  brush.setTransform(1, 0, -0.1, 1, 0.05 * SIDE, 0); // slanted, as in handwriting
  brush.fillText(character, SIDE / 2, (SIDE - height) / 2 + size.actualBoundingBoxAscent);
}

function drawLandscape(brush) {
  const fill = (color, draw) => {
    brush.fillStyle = color;
    brush.beginPath();
    draw();
    brush.fill();
  };
  const hill = (color, x, y, width, height) =>
    fill(color, () => brush.ellipse(x, y, width, height, 0, 0, 2 * Math.PI));
  const sky = brush.createLinearGradient(0, 0, 0, 0.7 * SIDE);
  sky.addColorStop(0, "#4f9fe0");
  sky.addColorStop(1, "#d8ecf8");
  fill(sky, () => brush.rect(0, 0, SIDE, SIDE));
  hill("#ffd75e", 275, 80, 34, 34); // the sun
  hill("#7d95a8", 60, 330, 190, 170);
  hill("#6b8699", 300, 340, 170, 130);
  hill("#6aa84f", 90, 400, 300, 150);
  hill("#4f8f3a", 330, 420, 240, 150);
  fill("#6e4a2f", () => brush.rect(101, 218, 14, 60)); // a tree
  hill("#2f6b34", 108, 190, 42, 52);
}
