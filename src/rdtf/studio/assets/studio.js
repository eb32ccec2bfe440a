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
