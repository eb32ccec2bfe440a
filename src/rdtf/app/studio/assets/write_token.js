(token) => {
  const [visitor, tab] = token.split('.');
  try {
    localStorage.setItem('rdtf-studio-visitor', visitor);
    if (sessionStorage.getItem('rdtf-studio-tab') !== tab) {
      sessionStorage.setItem('rdtf-studio-tab', tab);
      if (navigator.locks) {
        navigator.locks.request('rdtf-studio-' + tab, () => new Promise(() => {}));
      }
    }
  } catch (error) {}
}
