// A drawing pad: the pen draws at once; undo takes back a stroke; the drawing goes out as a PNG.
const pad = element.querySelector('canvas');
const pen = pad.getContext('2d');
const strokes = [];
let stroke = null;
let color = element.querySelector('[data-ink][aria-pressed=true]').dataset.ink;

const paint = ({ color, width, points }) => {
  pen.globalCompositeOperation = color === 'eraser' ? 'destination-out' : 'source-over';
  pen.strokeStyle = pen.fillStyle = color === 'eraser' ? '#000' : color;
  pen.lineWidth = width;
  pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath();
  if (points.length === 1) {
    pen.arc(points[0][0], points[0][1], width / 2, 0, 7);
    pen.fill();
    return;
  }
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
};
const repaint = () => {
  pen.clearRect(0, 0, pad.width, pad.height);
  strokes.forEach(paint);
};
const at = (event) => {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
};

pad.addEventListener('pointerdown', (event) => {
  event.preventDefault();
  pad.setPointerCapture(event.pointerId);
  stroke = { color, width: Number(element.querySelector('[data-width]').value), points: [at(event)] };
  strokes.push(stroke);
  repaint();
});
pad.addEventListener('pointermove', (event) => {
  if (!stroke) return;
  stroke.points.push(at(event));
  repaint();
});
['pointerup', 'pointercancel'].forEach((end) => pad.addEventListener(end, () => { stroke = null; }));

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.ink) {
    color = button.dataset.ink;
    element.querySelectorAll('[data-ink]').forEach((ink) => ink.setAttribute('aria-pressed', String(ink === button)));
  } else if (button.dataset.pad === 'use') {
    trigger('click', { do: 'draw', data: strokes.length ? pad.toDataURL('image/png').split(',')[1] : '' });
  } else {
    strokes.splice(button.dataset.pad === 'undo' ? -1 : 0, button.dataset.pad === 'undo' ? 1 : strokes.length);
    repaint();
  }
});
