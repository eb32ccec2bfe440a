async () => {
  let visitor = '', tab = '';
  try {
    visitor = localStorage.getItem('rdtf-studio-visitor') || '';
    tab = sessionStorage.getItem('rdtf-studio-tab') || '';
  } catch (error) {}
  if (tab && navigator.locks) {
    const is_free = await new Promise((resolve) => navigator.locks.request(
      'rdtf-studio-' + tab, { ifAvailable: true },
      (lock) => { resolve(Boolean(lock)); return lock ? new Promise(() => {}) : null; }));
    if (!is_free) tab = '';
  }
  return [visitor + '.' + tab];
}
