// Buttons inside the page's own HTML: what was pressed goes to the server, the focus stays.
let lastKey = null;

element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (!button || !element.contains(button)) return;
  if (button.getAttribute('aria-disabled') === 'true') return;
  let on = null;
  if (button.hasAttribute('aria-pressed')) {
    on = button.getAttribute('aria-pressed') !== 'true';
    if (button.hasAttribute('data-single')) {
      element.querySelectorAll('[data-single]').forEach((other) => other.setAttribute('aria-pressed', 'false'));
      on = true;
    }
    button.setAttribute('aria-pressed', String(on));
  }
  lastKey = button.dataset.key || null;
  trigger('click', {
    do: button.dataset.do,
    index: Number(button.dataset.index),
    name: button.dataset.name || '',
    on: on,
  });
});

// A file that is dropped on a frame goes into that frame.
const frameUnder = (event) => event.target.closest('.strip.mask .frame');
element.addEventListener('dragover', (event) => {
  if (frameUnder(event)) event.preventDefault();
});
element.addEventListener('drop', (event) => {
  const frame = frameUnder(event);
  const file = event.dataTransfer && event.dataTransfer.files[0];
  if (!frame || !file) return;
  event.preventDefault();
  const reader = new FileReader();
  reader.onload = () => trigger('click', {
    do: 'drop', index: Number(frame.dataset.index), data: reader.result.split(',')[1] || '',
  });
  reader.readAsDataURL(file);
});

// The stage: 0 plays the sticker, another number shows that frame.
const scrub = () => {
  const range = element.querySelector('[data-scrub]');
  if (!range) return;
  const screen = element.querySelector('.screen');
  const frames = screen.dataset.frames.split(' ');
  const index = Number(range.value);
  const [playing, onion, one] = screen.querySelectorAll('img');
  const before = element.querySelector('[data-onion]').checked && index > 1;
  playing.hidden = index > 0;
  one.hidden = index === 0;
  onion.hidden = !before;
  if (index > 0) one.src = frames[index - 1];
  if (before) onion.src = frames[index - 2];
  element.querySelector('output').textContent = index ? `${index} of ${frames.length}` : 'playing';
};
element.addEventListener('input', (event) => {
  if (event.target.matches('[data-scrub], [data-onion]')) scrub();
});

// Arrow keys walk along a strip, as in a toolbar; Tab still reaches every frame.
element.addEventListener('keydown', (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  const strip = event.target.closest('.strip');
  if (!(event.key in steps) || !strip) return;
  const frames = Array.from(strip.querySelectorAll('button'));
  const next = frames[frames.indexOf(event.target.closest('button')) + steps[event.key]];
  if (next) {
    next.focus();
    event.preventDefault();
  }
});

watch('value', () => {
  if (!lastKey) return;
  const again = element.querySelector(`[data-key="${CSS.escape(lastKey)}"]`);
  if (again && (document.activeElement === document.body || document.activeElement === null)) {
    again.focus({ preventScroll: true });
  }
});
